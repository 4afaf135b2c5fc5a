from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer


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
