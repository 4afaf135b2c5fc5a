"""A real embedded server around an engine that needs no weights, and requests as Label Studio sends them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from PIL import Image

from maskloop.settings import Settings
from maskloop.web.app import create_app
from maskloop.web.services import Services, embedded

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="Object"/></BrushLabels>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="Object"/></KeyPointLabels>
  <RectangleLabels name="box" toName="image" smart="true"><Label value="Object"/></RectangleLabels>
</View>"""

WIDTH, HEIGHT = 120, 90


def disc(centre: tuple[int, int] = (40, 40), radius: int = 20) -> np.ndarray:
    """A bright disc on dark ground, H x W x 3."""
    yy, xx = np.mgrid[:HEIGHT, :WIDTH]
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    image[(xx - centre[0]) ** 2 + (yy - centre[1]) ** 2 < radius**2] = (230, 200, 60)
    return image


def data_url(image: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def point(x: float, y: float, positive: bool = True, id: str = "p1") -> dict[str, Any]:
    value = {"x": 100 * x / WIDTH, "y": 100 * y / HEIGHT, "width": 0.2, "keypointlabels": ["Object"]}
    return {
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": value,
        "is_positive": positive,
        "id": id,
        "from_name": "kp",
        "to_name": "image",
        "type": "keypointlabels",
        "origin": "manual",
    }


def request_body(
    *context: dict[str, Any], url: str | None = None, task: int = 7, batch: bool = False
) -> dict[str, Any]:
    data = {"image": url or data_url(disc())}
    return {
        "tasks": [{"id": task, "data": data, "annotations": [], "drafts": [], "predictions": []}],
        "project": "3.1795417656",
        "label_config": CONFIG,
        "params": {"login": None, "password": None, "context": None if batch else {"result": list(context)}},
    }


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., tuple[FlaskClient, Services]]]:
    """``serve(**settings)`` starts a server and gives a client of it and its services."""
    started: list[Services] = []

    def start(**given: Any) -> tuple[FlaskClient, Services]:
        settings = Settings(_env_file=None, model="watershed", data_dir=tmp_path / "data", **given)
        services = embedded(settings)
        started.append(services)
        return create_app(services).test_client(), services

    yield start
    for services in started:
        services.close()


@pytest.fixture
def client(serve: Callable[..., tuple[FlaskClient, Services]]) -> FlaskClient:
    return serve()[0]
