"""`maskloop demo`: from one command to a task in which a click is answered, and everything gone after Ctrl+C."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser

from maskloop.demo.account import Account
from maskloop.demo.process import free_port
from maskloop.demo.project import IMAGES
from maskloop.demo.run import EMAIL, PASSWORD
from tests.e2e.conftest import PROGRAM, TEMPLATE, NewStudio
from tests.e2e.editor import Editor


@pytest.fixture
def started(new_studio: NewStudio, tmp_path: Path) -> subprocess.Popen[bytes]:
    shutil.copytree(TEMPLATE, tmp_path / "label-studio")
    ports = ["--label-studio-port", str(free_port()), "--port", str(free_port())]
    program = Path(sys.executable).with_name("maskloop")
    with (tmp_path / "output").open("wb") as output:
        return subprocess.Popen(
            [program, "demo", "--label-studio", PROGRAM, "--data", tmp_path, "--no-open", *ports],
            env={**os.environ, "COLUMNS": "200"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def printed(started: subprocess.Popen[bytes], output: Path) -> tuple[str, str]:
    """The login URL and MaskLoop's URL, once they are on the screen."""
    end = time.monotonic() + 240
    while time.monotonic() < end and started.poll() is None:
        text = output.read_text()
        urls = re.findall(r"http://127\.0\.0\.1:\d+\S*", text)
        if "stops both" in text:
            return urls[0], urls[1]
        time.sleep(0.5)
    raise AssertionError(output.read_text())


def gone(url: str) -> bool:
    try:
        requests.get(url, timeout=2)
    except requests.ConnectionError:
        return True
    return False


def test_the_demo_is_ready_for_the_first_click_and_leaves_nothing_behind(
    started: subprocess.Popen[bytes], tmp_path: Path, browser: Browser
) -> None:
    try:
        login, backend = printed(started, tmp_path / "output")
        studio = login.split("/user/")[0]
        account = Account(studio, EMAIL, PASSWORD)
        project = account.call("GET", "/api/projects/")["results"][0]["id"]
        tasks = account.task_ids(project)
        assert len(tasks) == len(IMAGES)
        (connected,) = account.call("GET", f"/api/ml/?project={project}")
        assert (connected["url"], connected["state"], connected["is_interactive"]) == (backend, "CO", True)
        account.close()

        page = browser.new_context(viewport={"width": 1500, "height": 1250}).new_page()
        page.set_default_timeout(90_000)
        page.goto(login)
        page.fill("input[name=email]", EMAIL)
        page.fill("input[name=password]", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/projects/{project}/data?task={tasks[0]}*")
        editor = Editor(page, studio)
        editor.open(project, tasks[0])
        assert editor.point(50, 50).mask.area > 0
        page.context.close()

        second = subprocess.run(started.args, capture_output=True, text=True, timeout=120)
        assert second.returncode == 1
        assert "running already" in second.stdout
        assert not gone(studio)
    finally:
        os.killpg(started.pid, signal.SIGINT)
        started.wait(60)
    assert gone(studio)
    assert gone(backend)
