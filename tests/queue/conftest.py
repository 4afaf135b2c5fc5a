from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from maskloop.queue import wire
from tests.queue.process import WorkerProcess
from tests.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def url(shared_server: RedisServer) -> str:
    """A Redis with nothing in it."""
    with redis.Redis.from_url(shared_server.url) as client:
        client.flushall()
    return shared_server.url


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    with wire.connect(url, blocking=5) as client:
        yield client


@pytest.fixture
def start_worker(url: str, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start worker processes whose handlers are those of tests.queue.process."""
    started: list[WorkerProcess] = []

    def start(at: str = url, wait: bool = True, **options: object) -> WorkerProcess:
        process = WorkerProcess(at, tmp_path / "ran", **options)
        started.append(process)
        if wait:
            process.wait_until_ready()
        return process

    yield start
    for process in started:
        process.kill()
