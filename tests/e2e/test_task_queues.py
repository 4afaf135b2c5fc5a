"""Whole task queues against a real Label Studio while web, worker and Redis are killed: none lost, none twice.

MASKLOOP_TEST_TASKS says how many tasks (1,000 takes a while) and MASKLOOP_TEST_MODEL which model.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from maskloop.demo.account import Account
from maskloop.demo.process import Backend
from maskloop.demo.studio import Studio
from maskloop.load.annotators import CONFIG, Annotator, Record, boxed_task
from maskloop.load.scenes import SceneServer
from tests.redis_server import RedisServer, needs_redis

TASKS = int(os.environ.get("MASKLOOP_TEST_TASKS", "40"))
MODEL = os.environ.get("MASKLOOP_TEST_MODEL", "watershed")
PATIENCE = 120 + 4 * TASKS
BETWEEN_KILLS = (4.0, 12.0)
"""Seconds; what was killed is back after about five, and the next blow may fall before that."""


class ScaledOut:
    """Web, two workers and Redis; each can be killed as by a power cut, and comes back as an orchestrator would."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        folder.mkdir()
        self.redis = RedisServer(folder)
        self.redis.start()
        self.settings = {**settings, "REDIS_URL": self.redis.url, "MASKLOOP_MODEL": MODEL}
        self.folder = folder
        self.web = Backend(folder / "data", self.settings)
        self.web.health = "/health"  # ready only with its workers
        self.web.start()
        command = [str(Path(sys.executable).with_name("maskloop")), "worker", "--count", "2"]
        self.log = (folder / "workers.log").open("ab")
        environment = {**self.web.environment}
        self.supervisor = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log)
        self.killed: Counter[str] = Counter()

    def wait_until_ready(self) -> None:
        for _ in range(600):
            with contextlib.suppress(requests.RequestException):
                if requests.get(f"{self.web.url}/ready", timeout=5).ok:
                    return
            time.sleep(0.2)
        raise AssertionError("never ready")

    def kill(self, what: str) -> None:
        self.killed[what] += 1
        if what == "redis":
            self.redis.kill()
            time.sleep(0.5)
            self.redis.start()
        elif what == "web":
            os.kill(self.web.pid, signal.SIGKILL)
            while not self.web.has_ended:
                time.sleep(0.02)
            self.web.start()
        else:
            workers = [
                p for p in psutil.Process(self.supervisor.pid).children() if "spawn_main" in " ".join(p.cmdline())
            ]
            if workers:
                random.choice(workers).kill()

    def stop(self) -> None:
        self.web.stop()
        self.supervisor.terminate()
        self.supervisor.wait(150)
        self.redis.stop()
        self.log.close()


@pytest.fixture(scope="module")
def scenes() -> Iterator[SceneServer]:
    with SceneServer(24) as server:
        yield server


@pytest.fixture(scope="module")
def scaled_out(
    studio: Studio, token: str, scenes: SceneServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ScaledOut]:
    settings = {
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": token,
        "MASKLOOP_IMAGE_HOSTS": scenes.host,
        "MASKLOOP_BATCH_DEADLINE_SECONDS": "8",
        "OMP_NUM_THREADS": "1",
    }
    shape = ScaledOut(tmp_path_factory.mktemp("scaled-out") / "shape", settings)
    try:
        shape.wait_until_ready()
        yield shape
    finally:
        shape.stop()


def import_tasks(account: Account, scenes: SceneServer, count: int) -> int:
    """A project of tasks that a detector has put a box on."""
    project = account.create_project("Task queue", CONFIG)
    tasks = []
    for number in range(count):
        task = boxed_task(number, scenes.scenes[number % len(scenes.scenes)])
        (prediction,) = task["predictions"]
        detected = {"result": prediction["result"], "model_version": "detector", "score": 0.5}
        tasks.append({"data": task["data"], "predictions": [detected]})
    account.call("POST", f"/api/projects/{project}/import", json=tasks, timeout=600)
    return project


def predictions(studio: Studio, project: int, version: str) -> Counter[int]:
    """How many predictions of a version each task has, read where Label Studio keeps them."""
    with contextlib.closing(sqlite3.connect(f"file:{studio.data / 'label_studio.sqlite3'}?mode=ro", uri=True)) as db:
        query = (
            "select task.id, count(prediction.id) from task left join prediction on prediction.task_id = task.id "
            "and prediction.model_version = ? and length(prediction.result) > 100 where task.project_id = ? group by 1"
        )
        return Counter(dict(db.execute(query, (version, project))))


def retrieve(account: Account, project: int) -> threading.Thread:
    """Data Manager, all tasks, Retrieve Predictions."""

    def press() -> None:
        with contextlib.suppress(RuntimeError, requests.RequestException):
            body: dict[str, Any] = {"selectedItems": {"all": True, "excluded": []}, "ordering": [], "filters": None}
            query = f"id=retrieve_tasks_predictions&project={project}"
            account.call("POST", f"/api/dm/actions?{query}", json=body, timeout=900)

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    return thread


def wait_for_all(studio: Studio, project: int, version: str, seconds: float) -> Counter[int]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(sqlite3.OperationalError):
            found = predictions(studio, project, version)
            if min(found.values()) >= 1:
                return found
        time.sleep(1)
    return predictions(studio, project, version)


def wait_until_taken(shape: ScaledOut, project: int) -> None:
    """Until the request has arrived: what Label Studio could not hand over is asked for again by whoever pressed."""
    for _ in range(600):
        batches = requests.get(f"{shape.web.url}/status.json", timeout=20).json()["batches"]
        if any(batch["project"] == project for batch in batches):
            return
        time.sleep(0.5)
    raise AssertionError("Label Studio never asked")


def version_of(shape: ScaledOut) -> str:
    return str(
        requests.post(f"{shape.web.url}/setup", json={"project": "1.1", "schema": CONFIG}, timeout=5).json()[
            "model_version"
        ]
    )


@needs_redis
@pytest.mark.slow
def test_progress_is_told(studio: Studio, account: Account, scenes: SceneServer, scaled_out: ScaledOut) -> None:
    project = import_tasks(account, scenes, 12)
    account.connect(project, scaled_out.web.url)
    retrieve(account, project).join(120)
    command = [str(Path(sys.executable).with_name("maskloop")), "jobs", "--json"]
    for _ in range(60):
        shown = json.loads(subprocess.run(command, env=scaled_out.web.environment, capture_output=True).stdout)
        (batch,) = (batch for batch in shown["batches"] if batch["project"] == project)
        if batch["done"] == 12:
            break
        time.sleep(1)
    assert (batch["project"], batch["total"], batch["failed"]) == (project, 12, 0)
    assert batch["done"] == 12
    status = requests.get(f"{scaled_out.web.url}/job_status", params={"job": batch["batch"]}, timeout=5).json()
    assert (status["status"], status["total"], status["done"]) == ("done", 12, 12)
    assert "maskloop_batch_tasks" in requests.get(f"{scaled_out.web.url}/metrics", timeout=5).text
    account.call("DELETE", f"/api/projects/{project}/")


@needs_redis
@pytest.mark.slow
def test_kill_9_at_random_loses_no_task_and_doubles_none(
    studio: Studio, account: Account, scenes: SceneServer, scaled_out: ScaledOut
) -> None:
    project = import_tasks(account, scenes, TASKS)
    account.connect(project, scaled_out.web.url)
    version = version_of(scaled_out)
    record, over = Record(), threading.Event()
    person = Annotator(1, scaled_out.web.url, scenes.scenes, record, over, think=1.0)
    person.start()
    pressed = retrieve(account, project)
    wait_until_taken(scaled_out, project)
    dice, end = random.Random(os.getpid()), time.monotonic() + PATIENCE
    deck: list[str] = []
    while time.monotonic() < end:
        time.sleep(dice.uniform(*BETWEEN_KILLS))
        deck = deck or dice.sample(["web", "worker", "redis"], 3)
        scaled_out.kill(deck.pop())
        found = predictions(studio, project, version)
        if min(found.values()) >= 1 and sum(scaled_out.killed.values()) >= 3:
            break
    calm = time.monotonic()
    found = wait_for_all(studio, project, version, PATIENCE)
    print(f"{TASKS} tasks, killed {dict(scaled_out.killed)}, done {time.monotonic() - calm:.0f} s after the last kill")
    over.set()
    person.join(30)
    pressed.join(60)
    time.sleep(5)  # whatever might still be stored twice
    found = predictions(studio, project, version)
    assert len(found) == TASKS
    assert Counter(found.values()) == {1: TASKS}
    outcomes = Counter(click.outcome for click in record.clicks)
    print(f"clicks: {dict(outcomes)}, longest {max(c.seconds for c in record.clicks):.1f} s")
    assert outcomes["ok"] > 0
    assert outcomes["wrong"] == 0
    assert max(click.seconds for click in record.clicks) < 20
    account.call("DELETE", f"/api/projects/{project}/")
