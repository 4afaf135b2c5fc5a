"""Bodies of the shape Label Studio sends, as small as they can be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskloop.labelstudio import rle
from maskloop.segment.prompt import Mask

FIXTURES = Path(__file__).parent / "fixtures"
SIZE = (64, 48)
"""Width and height of the image in all these bodies."""

CONFIG = """<View>
  <Image name="image" value="$image"/>
  <BrushLabels name="brush" toName="image" smart="false"><Label value="Cat"/><Label value="Dog"/></BrushLabels>
  <KeyPointLabels name="kp" toName="image" smart="true"><Label value="Cat"/><Label value="Dog"/></KeyPointLabels>
  <RectangleLabels name="box" toName="image" smart="true"><Label value="Cat"/><Label value="Dog"/></RectangleLabels>
</View>"""

POLYGONS = CONFIG.replace("BrushLabels", "PolygonLabels").replace('"brush"', '"poly"')


def shared() -> Path:
    """The folder beside the repository with recordings, or a skip."""
    folder = Path(os.environ.get("MASKLOOP_SHARED", Path(__file__).parents[3] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here (MASKLOOP_SHARED)")
    return folder


def recorded(name: str) -> Any:
    """The body of a request that a real Label Studio sent."""
    data = json.loads((shared() / "research" / "recorded" / f"{name}.json").read_text())["request"]
    return data.get("body", data)


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / f"{name}.json").read_text())


def mask(x0: int, y0: int, x1: int, y1: int) -> Mask:
    out = np.zeros(SIZE[::-1], bool)
    out[y0:y1, x0:x1] = True
    return out


def _region(id: str, type: str, from_name: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "original_width": SIZE[0],
        "original_height": SIZE[1],
        "image_rotation": 0,
        "value": value,
        "id": id,
        "from_name": from_name,
        "to_name": "image",
        "type": type,
        "origin": "manual",
        **more,
    }


def point(id: str, x: float, y: float, positive: bool | None = True, label: str = "Cat") -> dict[str, Any]:
    """A key point at pixel (x, y); an ordinary one, which no smart tool made, where positive is None."""
    value = {"x": 100 * x / SIZE[0], "y": 100 * y / SIZE[1], "width": 0.3, "keypointlabels": [label]}
    return _region(id, "keypointlabels", "kp", value, **({} if positive is None else {"is_positive": positive}))


def box(id: str, x0: float, y0: float, x1: float, y1: float, label: str = "Cat", **more: Any) -> dict[str, Any]:
    value = {
        "x": 100 * x0 / SIZE[0],
        "y": 100 * y0 / SIZE[1],
        "width": 100 * (x1 - x0) / SIZE[0],
        "height": 100 * (y1 - y0) / SIZE[1],
        "rotation": 0,
        "rectanglelabels": [label],
    }
    return _region(id, "rectanglelabels", "box", value, **more)


def brush(id: str, drawn: Mask, label: str | None = "Cat", **more: Any) -> dict[str, Any]:
    value: dict[str, Any] = {"format": "rle", "rle": list(rle.encode(drawn))}
    if label is not None:
        value["brushlabels"] = [label]
    return _region(id, "brushlabels", "brush", value, **more)


def draft(*result: dict[str, Any], user: str = "ann@example.com", at: float = 0.0, id: int = 1) -> dict[str, Any]:
    return {"id": id, "user": user, "updated_at": _time(at), "result": list(result), "annotation": None}


def annotation(*result: dict[str, Any], id: int = 1, at: float = 0.0, by: int = 1) -> dict[str, Any]:
    return {"id": id, "completed_by": by, "updated_at": _time(at), "result": list(result), "was_cancelled": False}


def prediction(*result: dict[str, Any], id: int = 1, at: float = 0.0) -> dict[str, Any]:
    return {"id": id, "model_version": "v1", "score": 0.8, "updated_at": _time(at), "result": list(result)}


def task(id: int = 7, **more: Any) -> dict[str, Any]:
    lists: dict[str, Any] = {"annotations": [], "drafts": [], "predictions": []}
    return {"id": id, "project": 3, "data": {"image": "/data/upload/3/cat.png"}, **lists, **more}


def body(*context: dict[str, Any], config: str = CONFIG, **of_task: Any) -> dict[str, Any]:
    """The body of a click."""
    return {
        "tasks": [task(**of_task)],
        "project": "3.1795417656",
        "label_config": config,
        "params": {"login": None, "password": None, "context": {"result": list(context)}},
    }


def batch(*tasks: Any, config: str = CONFIG) -> dict[str, Any]:
    return {
        "tasks": list(tasks),
        "project": "3.1795417656",
        "label_config": config,
        "params": {"login": None, "password": None, "context": None},
    }


def _time(at: float) -> str:
    from datetime import datetime, timezone

    return datetime.fromtimestamp(at, timezone.utc).isoformat().replace("+00:00", "Z")
