"""Eight clients click on four images at once: no answer may belong to another image.

The expected answers come from the server itself, asked one at a time beforehand; the same prompt
on the same image must then be answered with the same mask under load. That the check catches
what it is for is shown on a server that keeps "the current image", as predictors do that hold one.
"""

from __future__ import annotations

import io
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from maskloop.demo.process import Backend
from maskloop.demo.project import CONFIG

WIDTH, HEIGHT = 320, 240
CLICKS = ((30.0, 40.0), (50.0, 50.0))
"""In percent; each lies on an object in every image."""
IMAGES, CLIENTS, PER_CLIENT = 4, 8, 100


def picture(number: int) -> bytes:
    """One ellipse over all clicks; its width and height tell the images apart."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.random.default_rng(number).integers(30, 60, (HEIGHT, WIDTH, 3))
    across, down = (100 + 15 * number, 95 - 8 * number)
    inside = ((x - 130) / across) ** 2 + ((y - 110) / down) ** 2 < 1
    pixels[inside] = pixels[inside] + np.array([150, 120 - 30 * number, 20 + 40 * number])
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Pictures(_Quiet):
    """Serves /0.png to /3.png."""

    def do_GET(self) -> None:
        content = picture(int(self.path[1:-4]))
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def body(pictures: str, image: int, click: int) -> dict[str, Any]:
    """A positive click as Label Studio sends it, with a region id that nobody has used."""
    x, y = CLICKS[click]
    region = {
        "id": uuid.uuid4().hex[:10],
        "type": "keypointlabels",
        "from_name": "point",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "is_positive": True,
        "value": {"x": x, "y": y, "width": 0.3, "keypointlabels": ["Object"]},
    }
    task = {"id": image + 1, "data": {"image": f"{pictures}/{image}.png"}}
    return {
        "tasks": [task],
        "project": "1.1700000000",
        "label_config": CONFIG,
        "params": {"context": {"result": [region]}},
    }


Ask = Callable[[requests.Session, int, int], tuple[int, ...]]


def asker(server: str, pictures: str) -> Ask:
    def ask(session: requests.Session, image: int, click: int) -> tuple[int, ...]:
        answer = session.post(f"{server}/predict", json=body(pictures, image, click), timeout=60)
        assert answer.status_code == 200, answer.text
        (prediction,) = answer.json()["results"]
        return tuple(prediction["result"][0]["value"]["rle"])

    return ask


def verdicts(ask: Ask, each: int = PER_CLIENT) -> Counter[str]:
    """How many answers were right, of another image, or unknown, when eight clients ask at once, ``each`` so often.

    What is right is asked alone first.
    """
    with requests.Session() as session:
        alone = {(i, c): ask(session, i, c) for i in range(IMAGES) for c in range(len(CLICKS))}
    owners: dict[tuple[int, ...], set[int]] = {}
    for (image, _), mask in alone.items():
        owners.setdefault(mask, set()).add(image)
    assert all(len(images) == 1 for images in owners.values()), "the images' masks must differ for this to say anything"

    def client(number: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        with requests.Session() as session:
            for turn in range(each):
                image, click = (number + turn) % IMAGES, (number // IMAGES + turn // IMAGES) % len(CLICKS)
                mask = ask(session, image, click)
                if mask == alone[image, click]:
                    seen["right"] += 1
                else:
                    seen["another image" if owners.get(mask, {image}) != {image} else "unknown"] += 1
        return seen

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(client, range(CLIENTS)), Counter())


@pytest.fixture
def pictures() -> Iterator[str]:
    with listening(Pictures) as url:
        yield url


@pytest.mark.slow
def test_800_clicks_of_8_clients_on_4_images_never_cross(pictures: str, tmp_path: Path) -> None:
    settings = {
        "MASKLOOP_IMAGE_HOSTS": pictures.removeprefix("http://"),
        "MASKLOOP_DEADLINE_SECONDS": "60",
        "LABEL_STUDIO_URL": "",
    }
    with Backend(tmp_path, settings) as backend:
        assert verdicts(asker(backend.url, pictures)) == {"right": CLIENTS * PER_CLIENT}


def test_the_check_catches_a_server_with_a_current_image(pictures: str) -> None:
    """The guard taken out: ``set_image``, then ``predict``, on one predictor for all."""
    current: dict[str, int] = {}

    class Forgetful(_Quiet):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            current["image"] = asked["tasks"][0]["id"]
            time.sleep(0.002)  # encoding
            x = int(asked["params"]["context"]["result"][0]["value"]["x"])
            region = {"value": {"rle": [current["image"], x]}}
            content = json.dumps({"results": [{"result": [region]}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with listening(Forgetful) as url:
        seen = verdicts(asker(url, pictures), each=20)
    assert seen["another image"] > 0
    assert seen.total() == CLIENTS * 20
