from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from maskloop.settings import Settings, default_models_dir
from tests.web.conftest import point, request_body


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def silence() -> Iterator[str]:
    """host:port of an image server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def server(tmp_path: Path, silence: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    environment = {
        **os.environ,
        "MASKLOOP_MODEL": "watershed",
        "MASKLOOP_DATA_DIR": str(tmp_path),
        "MASKLOOP_IMAGE_HOSTS": silence,
        "MASKLOOP_FETCH_TIMEOUT_SECONDS": "60",
        "MASKLOOP_DEADLINE_SECONDS": "60",
        "PORT": str(port),
    }
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


def wait_until_there_wait(clicks: int, process: psutil.Process, port: int) -> None:
    for _ in range(300):
        connected = [c for c in process.net_connections("tcp") if c.status == "ESTABLISHED" and c.laddr.port == port]
        if len(connected) >= clicks:
            return
        time.sleep(0.1)
    raise AssertionError(f"there were never {clicks} clicks waiting")


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


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        ("MASKLOOP_DEVICE", "cuda:77", "'cuda:77' is not there"),
        ("PORT", "0", "should be greater than or equal to 1"),
        ("MASKLOOP_MODEL", "nothing-like-it", "nothing-like-it"),
        ("HOST", "192.0.2.1", "an address of this machine"),
        ("BASIC_AUTH_USER", "alone", "BASIC_AUTH_PASS"),
        ("DATABASE_URL", "postgresql://127.0.0.1:1/none", "does not open"),
    ],
)
def test_a_setting_that_cannot_work_ends_the_server_and_is_named(
    tmp_path: Path, setting: str, value: str, why: str
) -> None:
    protected = {"BASIC_AUTH_USER": "studio", "BASIC_AUTH_PASS": "sesame"} if setting == "HOST" else {}
    environment = {**os.environ, **protected, "MASKLOOP_DATA_DIR": str(tmp_path), setting: value}
    command = [sys.executable, "-m", "maskloop", "serve"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert setting in ended.stderr
    assert why in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_is_said_in_one_line(tmp_path: Path, silence: str) -> None:
    environment = {**os.environ, "MASKLOOP_DATA_DIR": str(tmp_path), "PORT": silence.rpartition(":")[2]}
    command = [sys.executable, "-m", "maskloop", "serve"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert f"Cannot listen on {silence}" in ended.stderr
    assert "choose another PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environment = {**os.environ, "MASKLOOP_DATA_DIR": str(tmp_path / "file")}
    command = [sys.executable, "-m", "maskloop", "serve"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert str(tmp_path / "file") in ended.stderr
    assert "MASKLOOP_DATA_DIR" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_people_who_keep_their_connections_open_shut_nobody_out(server: tuple[subprocess.Popen[str], str]) -> None:
    _, url = server
    wait_until_up(url)
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            person = stack.enter_context(requests.Session())
            assert person.get(f"{url}/health", timeout=20).status_code == 200


def test_health_is_answered_while_everybody_waits(server: tuple[subprocess.Popen[str], str], silence: str) -> None:
    process, url = server
    wait_until_up(url)
    answers: list[int] = []

    def click(number: int) -> None:
        body = request_body(point(40, 40), url=f"http://{silence}/{number}.png", task=number)
        with contextlib.suppress(requests.ConnectionError):  # the server is killed in the end
            answers.append(requests.post(f"{url}/predict", json=body, timeout=90).status_code)

    people = [threading.Thread(target=click, args=(number,), daemon=True) for number in range(40)]
    for person in people:
        person.start()
    wait_until_there_wait(40, psutil.Process(process.pid), int(url.rpartition(":")[2]))
    assert requests.get(f"{url}/health", timeout=20).json()["status"] == "UP"
    assert not answers


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


@pytest.mark.parametrize(
    ("model", "what_to_do"),
    [
        ("sam2.1-hiera-tiny", "maskloop models pull sam2.1-hiera-tiny"),
        ("sam-hq-vit-base", "maskloop models pull sam-hq-vit-base"),
        ("clicknet", "weights.safetensors is missing; restore it from the release"),
    ],
)
def test_a_model_without_weights_is_named_in_one_line(tmp_path: Path, model: str, what_to_do: str) -> None:
    environment = {
        **os.environ,
        "MASKLOOP_MODEL": model,
        "MASKLOOP_DATA_DIR": str(tmp_path),
        "MASKLOOP_MODELS_DIR": str(tmp_path / "models"),
        "PORT": str(free_port()),
    }
    folder = tmp_path / "models" / model
    shutil.copytree(default_models_dir() / folder.name, folder, ignore=lambda _, names: set(names) - {"model.toml"})
    command = [sys.executable, "-m", "maskloop", "serve"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert told.returncode == 2
    assert what_to_do in told.stderr
    assert "Traceback" not in told.stderr
