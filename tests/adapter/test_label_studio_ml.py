"""`label-studio-ml start` on the adapter, under 1.0.9 (in a virtual environment of its own) and 2.x.

2.x is not on any package index: MASKLOOP_TEST_LABEL_STUDIO_ML names the Python of an environment that has it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

import maskloop.adapter
from maskloop.demo.process import free_port
from tests.web.conftest import CONFIG, data_url, disc, point

pytestmark = pytest.mark.slow

ADAPTER = Path(maskloop.adapter.__file__).parent
ROOT = Path(__file__).parents[2]
AUTH = ("label-studio", "a password")


def python_with_1_0_9() -> Path:
    """Made once; 1.0.9 pins a Flask of 2019 and forgets to ask for rq, redis and setuptools."""
    folder = ROOT / ".cache" / "label-studio-ml-1.0.9"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        packages = ["label-studio-ml==1.0.9", "rq", "redis", "setuptools<80"]
        installed = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
        if installed.returncode:
            pytest.skip(f"label-studio-ml 1.0.9 cannot be installed here: {installed.stderr.strip()[-200:]}")
        (folder / "ready").touch()
    return python


@pytest.fixture(scope="module", params=["1.0.9", "2.x"])
def python(request: pytest.FixtureRequest) -> Path:
    if request.param == "1.0.9":
        return python_with_1_0_9()
    named = os.environ.get("MASKLOOP_TEST_LABEL_STUDIO_ML")
    if not named:
        pytest.skip("MASKLOOP_TEST_LABEL_STUDIO_ML names no Python with label-studio-ml 2.x")
    return Path(named)


@pytest.fixture(scope="module")
def url(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, data = free_port(), tmp_path_factory.mktemp("adapter")
    environment = {
        **os.environ,
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "ML_BACKEND_COMMAND": str(Path(sys.executable).with_name("maskloop")),
        "BASIC_AUTH_USER": AUTH[0],
        "BASIC_AUTH_PASS": AUTH[1],
        "MASKLOOP_TRAIN": "false",
    }
    command = ["start", str(ADAPTER), "--port", str(port), "--host", "127.0.0.1", "--model-dir", str(data)]
    with (data / "log").open("wb") as log:
        process = subprocess.Popen(
            [python, "-m", "label_studio_ml.server", *command, "--with", "model=watershed"],
            env=environment,
            cwd=data,  # 2.x keeps a cache.db where it is started
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(400):
                try:
                    requests.get(f"{url}/health", timeout=2)
                    break
                except requests.RequestException:
                    time.sleep(0.2)
                assert process.poll() is None, (data / "log").read_text()[-2000:]
            else:
                raise AssertionError((data / "log").read_text()[-2000:])
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def test_label_studio_finds_a_backend(url: str) -> None:
    assert requests.get(f"{url}/health", auth=AUTH, timeout=5).json()["model_class"] == "MaskLoop"
    body = {"project": "1.17", "schema": CONFIG, "extra_params": {"a": 1}}
    version = requests.post(f"{url}/setup", json=body, auth=AUTH, timeout=5).json()["model_version"]
    assert version.startswith("watershed-")
    assert requests.get(f"{url}/versions", auth=AUTH, timeout=5).json() == {"versions": [version]}


def test_a_click_becomes_a_mask(url: str) -> None:
    task = {"id": 1, "data": {"image": data_url(disc())}, "project": 1}
    body = {
        "tasks": [task],
        "project": "1.17",
        "label_config": CONFIG,
        "params": {"context": {"result": [point(40, 40)]}},
    }
    response = requests.post(f"{url}/predict", json=body, auth=AUTH, timeout=60)
    assert response.status_code == 200, response.text
    (region,) = response.json()["results"][0]["result"]
    assert region["type"] == "brushlabels"
    assert region["value"]["brushlabels"] == ["Object"]
    assert "decode;dur=" in response.headers["Server-Timing"]


def test_the_password_is_asked_for_by_maskloop(url: str) -> None:
    assert requests.post(f"{url}/predict", json={}, timeout=5).status_code == 401


def test_a_bad_request_is_told(url: str) -> None:
    response = requests.post(f"{url}/predict", json={"tasks": []}, auth=AUTH, timeout=5)
    assert response.status_code == 400
    assert "label_config" in response.json()["error"]


def test_the_model_class_itself(url: str, python: Path, tmp_path: Path) -> None:
    """What `--check` makes and what notebooks call."""
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); import model; model.server.url = sys.argv[2]\n"
        "m = model.MaskLoop(label_config=sys.argv[3])\n"
        "print(json.dumps(m.predict([{'id': 1, 'data': {'image': sys.argv[4]}, 'project': 1}])))\n"
        "print(json.dumps(m.fit('PROJECT_UPDATED', {'project': {'id': 1}})))\n"
    )
    environment = {**os.environ, "BASIC_AUTH_USER": AUTH[0], "BASIC_AUTH_PASS": AUTH[1]}
    command = [python, "-c", code, str(ADAPTER), url, CONFIG, data_url(disc())]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[0] == "[[]]"


def test_an_open_door_is_refused(python: Path, tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BASIC_AUTH")}
    command = [python, str(ADAPTER / "_wsgi.py"), "--host", "0.0.0.0", "--port", str(free_port())]
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "without a password" in run.stderr
