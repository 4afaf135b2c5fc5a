from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from maskloop.settings import Settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    environment = {**os.environ, "MASKLOOP_MODEL": "watershed", "MASKLOOP_DATA_DIR": str(tmp_path), "PORT": str(port)}
    command = [sys.executable, "-m", "maskloop", "serve"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        yield process, f"http://127.0.0.1:{port}"
        process.kill()


def wait_until_up(url: str) -> None:
    for _ in range(300):
        try:
            if requests.get(f"{url}/ready", timeout=1).status_code == 200:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{url} never became ready")


def test_the_server_starts_answers_and_stops_when_told(server: tuple[subprocess.Popen[str], str]) -> None:
    process, url = server
    wait_until_up(url)
    assert requests.get(f"{url}/health", timeout=5).json()["status"] == "UP"
    assert "Ready for clicks" in requests.get(url, timeout=5).text
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert process.stderr is not None
    said = process.stderr.read()
    assert "Traceback" not in said
    assert "stopping" in said


def test_an_unprotected_server_stays_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "BASIC_AUTH_USER", "BASIC_AUTH_PASS"):
        monkeypatch.delenv(name, raising=False)
    assert Settings(_env_file=None).listen_host == "127.0.0.1"
    assert Settings(_env_file=None, basic_auth_user="a", basic_auth_pass="b").listen_host == "0.0.0.0"


def test_an_open_door_is_refused(tmp_path: Path) -> None:
    environment = {**os.environ, "HOST": "0.0.0.0", "MASKLOOP_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "maskloop", "serve"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "BASIC_AUTH_USER" in done.stderr
