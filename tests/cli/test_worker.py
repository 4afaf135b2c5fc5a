from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.queue.waiting import wait_until
from tests.redis_server import RedisServer, needs_redis


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.stop()


def worker(tmp_path: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "maskloop", "worker", *arguments]
    environment = {**os.environ, "MASKLOOP_DATA_DIR": str(tmp_path), **settings}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "settings", "why"),
    [
        ([], {"REDIS_URL": ""}, "REDIS_URL is not set"),
        ([], {"REDIS_URL": "localhost:6379"}, "REDIS_URL: Value error, it must be a whole URL"),
        ([], {"MASKLOOP_MODEL": "nothing-like-it"}, "nothing-like-it"),
        ([], {"MASKLOOP_DEVICE": "cuda:77"}, "'cuda:77' is not there"),
        (["--device", "gpu"], {}, "MASKLOOP_DEVICE"),
        (["--check"], {}, "no worker runs on this host"),
        (["--check"], {"REDIS_URL": "redis://:sesame@127.0.0.1:1/0"}, "127.0.0.1:1/0 does not answer"),
    ],
)
def test_what_keeps_a_worker_from_working_is_said_once(
    tmp_path: Path, url: str, arguments: list[str], settings: dict[str, str], why: str
) -> None:
    ended = worker(tmp_path, *arguments, **{"REDIS_URL": url, **settings})
    assert ended.returncode == (1 if "--check" in arguments else 2)
    assert ended.stderr.count(why) == 1
    assert "Traceback" not in ended.stderr
    assert "sesame" not in ended.stderr


@needs_redis
def test_a_worker_waits_for_redis_and_says_so_once(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    environment = {
        **os.environ, "MASKLOOP_DATA_DIR": str(tmp_path), "MASKLOOP_MODEL": "watershed", "REDIS_URL": server.url
    }  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-m", "maskloop", "worker"], env=environment, stderr=file)
    try:
        wait_until(lambda: "waiting for it" in log.read_text())
        time.sleep(2.5)
        server.start()
        wait_until(lambda: "ready with watershed" in log.read_text())
    finally:
        process.terminate()
        process.wait(30)
        server.stop()
    said = log.read_text()
    assert said.count("waiting for it") == 1
    assert "Traceback" not in said
