"""Images of hosts that are slow, dead or silent, and what that costs the others."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskloop.jobs import fetching
from maskloop.jobs.fetching import Fetching
from maskloop.jobs.handlers import build_workbench, handlers
from maskloop.jobs.predict import PredictAnswer, PredictRequest
from maskloop.labelstudio.images import FetchOptions, ImageError, ImageStore
from maskloop.queue.job import Away, Job, JobError, Priority
from maskloop.queue.local import LocalQueue
from maskloop.queue.pauses import Later, serve_pauses
from maskloop.segment.prompt import Point, Prompt
from maskloop.settings import Settings
from tests.labelstudio.server import Handler, Server, encoded, pixels, reply, serving
from tests.queue.waiting import in_background, wait_until

VERSION = build_workbench(Settings(_env_file=None, model="watershed")).base_version
PNG = encoded(pixels(60, 80))


class Host:
    """Keeps everybody waiting for ``/slow/...`` until it is let through; anything else is there at once."""

    def __init__(self, server: Server) -> None:
        self.url = server.url
        self.server = server
        self.let_through = threading.Event()

    def slow(self, name: str) -> str:
        def answer(request: Handler) -> None:
            self.let_through.wait(20)
            reply(PNG)(request)

        self.server.routes[f"/slow/{name}.png"] = answer
        return f"{self.url}/slow/{name}.png"

    def quick(self, name: str, image: bytes = PNG) -> str:
        self.server.routes[f"/quick/{name}.png"] = reply(image)
        return f"{self.url}/quick/{name}.png"


@pytest.fixture
def host() -> Iterator[Host]:
    with serving() as server:
        host = Host(server)
        yield host
        host.let_through.set()


def options(host: Host, **given: Any) -> FetchOptions:
    return FetchOptions(**{"allowed_hosts": frozenset({host.url.removeprefix("http://")}), **given})


@pytest.fixture
def queue(host: Host, tmp_path: Path) -> Iterator[LocalQueue]:
    (allowed,) = options(host).allowed_hosts
    settings = Settings(_env_file=None, model="watershed", data_dir=tmp_path, image_hosts=allowed)
    queue = LocalQueue(handlers(build_workbench(settings)))
    yield queue
    host.let_through.set()
    queue.close()


def click(url: str, task: int = 1) -> Job:
    request = PredictRequest(url=url, task=task, version=VERSION, prompt=Prompt((Point(30, 40),)))
    return Job("predict", request.to_json())


def test_clicks_on_other_images_are_answered_while_a_host_is_slow(host: Host, queue: LocalQueue) -> None:
    slow = [in_background(queue, click(host.slow(str(n)), n), 20) for n in range(3)]
    for n in range(2 * fetching.AHEAD):  # more than are fetched ahead at once: the last of them wait in the thread
        queue.enqueue(Job("prepare", {"url": host.slow(f"ahead{n}"), "task": n, "version": VERSION}), Priority.BATCH)
    wait_until(lambda: len(host.server.paths) == 3 + fetching.AHEAD + 1)
    for n in range(3):
        answer = PredictAnswer.from_json(queue.call(click(host.quick(str(n)), 10 + n), 10))
        assert answer.size == (80, 60)
    assert all(thread.is_alive() for thread, _ in slow)
    host.let_through.set()
    for thread, answers in slow:
        thread.join(20)
        assert PredictAnswer.from_json(answers[0]).size == (80, 60)


def test_an_image_that_fails_fails_its_own_job(host: Host, queue: LocalQueue) -> None:
    with pytest.raises(JobError, match="404"):
        queue.call(click(f"{host.url}/missing.png"), 10)
    with pytest.raises(JobError, match="404"):
        queue.call(Job("prepare", {"url": f"{host.url}/missing.png", "task": 1, "version": VERSION}), 10)
    host.server.routes["/busy.png"] = reply(b"", 503)
    with pytest.raises(Away, match="503"):
        queue.call(click(f"{host.url}/busy.png"), 10)
    assert queue.call(click(host.quick("a")), 10)


def test_an_image_larger_than_all_caches_arrives(host: Host) -> None:
    fetching = Fetching(ImageStore(options(host, ram_bytes=0)))
    url = host.quick("a")
    for _ in range(2):
        with pytest.raises(Later) as later:
            fetching.image(url, 1, waited_for=True)
        later.value.ready.result(10)
        assert fetching.image(url, 1, waited_for=True).pixels.shape == (60, 80, 3)


def test_an_image_nobody_came_back_for_is_forgotten(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "KEPT_SECONDS", -1.0)
    images = Fetching(ImageStore(options(host, ram_bytes=0)))
    for n in range(5):
        with pytest.raises(Later) as later:
            images.image(host.quick(str(n)), n, waited_for=True)
        later.value.ready.result(10)
    assert len(images._on_their_way) == 1


def test_a_job_beyond_those_fetched_ahead_waits_and_lets_clicks_pass(host: Host) -> None:
    images = Fetching(ImageStore(options(host)))
    for n in range(fetching.AHEAD):
        with pytest.raises(Later):
            images.image(host.slow(str(n)), n, waited_for=False)
    passed: list[np.ndarray] = []

    def answer_clicks() -> None:
        if passed:
            return
        with pytest.raises(Later):
            images.image(host.slow("click"), 98, waited_for=True)
        host.let_through.set()
        passed.append(images.image(host.quick("known"), 99, waited_for=True).pixels)

    url = host.quick("known")
    ImageStore.load(images._images, url, 99)

    def work() -> None:
        serve_pauses(answer_clicks)
        assert images.image(host.slow("last"), 97, waited_for=False).pixels.shape == (60, 80, 3)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert passed


def test_a_host_that_takes_no_connection_is_not_tried_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskloop.labelstudio.pinned.CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        held = [socket.socket() for _ in range(4)]
        for one in held:  # nobody accepts: what does not fit into the backlog gets no answer at all
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        images = ImageStore(FetchOptions(allowed_hosts=frozenset({f"127.0.0.1:{port}"})))
        with pytest.raises(ImageError, match="could not be fetched"):
            images.load(f"http://127.0.0.1:{port}/a.png")
        with pytest.raises(ImageError, match="took no connection a moment ago"):
            images.load(f"http://127.0.0.1:{port}/b.png")
        for one in held:
            one.close()
    monkeypatch.setattr("maskloop.labelstudio.fetch.SILENT_SECONDS", 0.0)
    images._fetcher._silent.clear()
    with pytest.raises(ImageError, match="could not be fetched"):
        images.load(f"http://127.0.0.1:{port}/a.png")
