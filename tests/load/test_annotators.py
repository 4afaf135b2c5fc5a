"""Simulated people against a real server that can be told to mix up its answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from maskloop.cli.bench_load import figures
from maskloop.labelstudio import rle
from maskloop.labelstudio.controls import LabelConfig
from maskloop.labelstudio.regions import Target, brush_region, prediction
from maskloop.load.annotators import CONFIG, Annotator, Record, boxed_task, server_seconds
from maskloop.load.scenes import Scene, SceneServer


@pytest.fixture(scope="module")
def scenes() -> Iterator[list[Scene]]:
    with SceneServer(4) as server:
        yield server.scenes


class Answers:
    """A backend that knows every object; ``shift`` 1 answers with the next image's, as a shared predictor does."""

    def __init__(self, scenes: list[Scene], shift: int = 0, status: int = 200) -> None:
        order = {scene.url: n for n, scene in enumerate(scenes)}
        control = LabelConfig.parse(CONFIG).output()
        assert control is not None

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                reply: dict[str, object] = {}
                if self.path == "/predict" and body["params"]["context"] is not None:
                    scene = scenes[(order[body["tasks"][0]["data"]["image"]] + shift) % len(scenes)]
                    target = Target.of(control, "a", "Object", scene.size)
                    region = brush_region(target, rle.encode(scene.mask), 0.9)
                    reply = {"results": [prediction([region], "v1", 0.9)]}
                    self.send_response(status)
                    self.send_header("Server-Timing", "encode;dur=1.0, decode;dur=2.0, rle;dur=9")
                else:
                    self.send_response(200)
                data = json.dumps(reply).encode()
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def work(server: Answers, scenes: list[Scene], seconds: float = 1.0) -> Record:
    record, over = Record(), threading.Event()
    people = [Annotator(n, server.url, scenes, record, over, think=0.02) for n in range(3)]
    for person in people:
        person.start()
    over.wait(seconds)
    over.set()
    for person in people:
        person.join(10)
    server.close()
    return record


def test_people_open_click_and_submit(scenes: list[Scene]) -> None:
    record = work(Answers(scenes), scenes)
    row = figures(record, 1.0)
    assert row["clicks"] > 10
    assert row["submitted"] > 0
    assert (row["wrong"], row["refused"], row["errors"]) == (0, 0, 0)
    assert set(row["by_click"]) <= {"1", "2", "3", "4"}
    assert row["model_p50_ms"] == pytest.approx(3.0)
    assert min(click.iou for click in record.clicks) == 1.0


def test_an_answer_of_another_image_is_noticed(scenes: list[Scene]) -> None:
    row = figures(work(Answers(scenes, shift=1), scenes), 1.0)
    assert row["wrong"] == row["clicks"] > 0


def test_a_refusal_is_no_error(scenes: list[Scene]) -> None:
    record = work(Answers(scenes, status=503), scenes)
    row = figures(record, 1.0)
    assert row["refused"] == row["clicks"] > 0
    assert row["all"]["p50_ms"] is None
    assert all(problem.startswith("HTTP 503") for problem in record.problems)


def test_a_boxed_task_is_one_that_preannotation_takes(scenes: list[Scene]) -> None:
    from maskloop.jobs.preannotate import plan
    from maskloop.labelstudio.requests import parse_predict
    from maskloop.load.annotators import predict_body

    request = parse_predict(predict_body([boxed_task(1, scenes[0])], None))
    planned = plan(request.tasks[0], request.config, "v1")
    assert planned is not None
    box = planned.wishes[0].prompt.box
    assert box is not None
    assert (box.x1 - box.x0, box.y1 - box.y0) == pytest.approx(extent(scenes[0]))


def extent(scene: Scene) -> tuple[int, int]:
    rows, columns = scene.mask.any(axis=1), scene.mask.any(axis=0)
    return int(columns.sum()), int(rows.sum())


def test_server_timing() -> None:
    assert server_seconds("encode;dur=10.5, decode;dur=4, total;dur=20", ("encode", "decode")) == pytest.approx(0.0145)
    assert server_seconds("", ("encode",)) == 0.0
