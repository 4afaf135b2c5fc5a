"""Eight clients click on four images at once: no answer may belong to another image.

The expected answers come from the server itself, asked one at a time beforehand; the same prompt
on the same image must then be answered with the same mask under load. That the check catches
what it is for is shown on a server that keeps "the current image", as predictors do that hold one.
"""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from maskloop.demo.process import Backend
from maskloop.demo.project import CONFIG
from maskloop.queue import wire
from maskloop.queue.affinity import live_workers, preferred
from tests.redis_server import RedisServer, needs_redis

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
    """Serves 0.png to 3.png in any folder."""

    def do_GET(self) -> None:
        content = picture(int(Path(self.path).stem))
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


@contextmanager
def two_workers(environment: dict[str, str], folder: Path) -> Iterator[list[str]]:
    """`maskloop worker --count 2`; the names of both when they are ready."""
    command = [str(Path(sys.executable).with_name("maskloop")), "worker", "--count", "2"]
    with (folder / "workers.log").open("ab") as log, wire.connect(environment["REDIS_URL"]) as redis:
        supervisor = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 120
            while len(names := [name for name, said in live_workers(redis).items() if said["ready"]]) < 2:
                assert time.monotonic() < until, (folder / "workers.log").read_text()
                time.sleep(0.1)
            yield names
        finally:
            supervisor.terminate()
            supervisor.wait(150)


@pytest.mark.slow
@needs_redis
def test_800_clicks_never_cross_between_two_web_processes_and_two_workers(pictures: str, tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    settings = {
        "REDIS_URL": server.url,
        "MASKLOOP_IMAGE_HOSTS": pictures.removeprefix("http://"),
        "MASKLOOP_DEADLINE_SECONDS": "60",
        "LABEL_STUDIO_URL": "",
    }
    with ExitStack() as stack:
        stack.callback(server.stop)
        webs = [Backend(tmp_path / "data", settings) for _ in range(2)]
        names = stack.enter_context(two_workers(webs[0].environment, tmp_path))
        for web in webs:
            stack.enter_context(web)
        folders = (f"{pictures}/{n}" for n in itertools.count())
        folder = next(f for f in folders if len({preferred(f"{f}/{i}.png", names) for i in range(IMAGES)}) == 2)
        asks = itertools.cycle([asker(web.url, folder) for web in webs])
        assert verdicts(lambda *asked: next(asks)(*asked)) == {"right": CLIENTS * PER_CLIENT}
        with wire.connect(server.url) as redis:
            done = [int(redis.hget(f"rq:worker:{name}", "successful_job_count") or 0) for name in names]
        assert min(done) > 0, "one worker did everything"
        assert sum(done) >= CLIENTS * PER_CLIENT


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
