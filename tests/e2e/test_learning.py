"""The loop closed in a real Label Studio: submit, train, see the version change and the next task filled, roll back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from maskloop.demo.account import Account
from maskloop.demo.process import Backend
from maskloop.demo.project import CONFIG
from maskloop.demo.studio import Studio
from maskloop.jobs.reconcile import reconcile
from maskloop.labelstudio import rle
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.labelstudio.controls import LabelConfig
from maskloop.ledger import Ledger, Training, TrainingState
from tests.e2e import pictures
from tests.e2e.conftest import Labeling, NewProject

PATIENCE = 1200.0
OUTPUT = LabelConfig.parse(CONFIG).output()


@pytest.fixture
def learner(studio: Studio, token: str, tmp_path: Path) -> Iterator[Backend]:
    settings = {
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": token,
        "OMP_NUM_THREADS": "1",
        "MASKLOOP_TRAIN_MINUTES": "2.5",
        "MASKLOOP_TRAIN_COOLDOWN_SECONDS": "0",
        "MASKLOOP_POLL_SECONDS": "5",
    }
    with Backend(tmp_path / "data", settings) as backend:
        yield backend


def masks() -> list[np.ndarray]:
    rows, columns = np.mgrid[: pictures.HEIGHT, : pictures.WIDTH]
    x, y = pictures.DISC[0] * pictures.WIDTH / 100, pictures.DISC[1] * pictures.HEIGHT / 100
    x0, y0, x1, y1 = pictures.BLOCK
    across, down = pictures.WIDTH / 100, pictures.HEIGHT / 100
    block = (columns >= x0 * across) & (columns < x1 * across) & (rows >= y0 * down) & (rows < y1 * down)
    return [(columns - x) ** 2 + (rows - y) ** 2 < (0.15 * pictures.WIDTH) ** 2, block]


def submit(account: Account, task: int) -> int:
    assert OUTPUT is not None
    result = [
        {
            "id": f"m{number}", "type": "brushlabels", "from_name": OUTPUT.name, "to_name": OUTPUT.to_name,
            "original_width": pictures.WIDTH, "original_height": pictures.HEIGHT, "image_rotation": 0,
            "value": {"format": "rle", "rle": list(rle.encode(mask)), "brushlabels": [OUTPUT.labels[0]]},
        }
        for number, mask in enumerate(masks())
    ]  # fmt: skip
    made: dict[str, Any] = account.call("POST", f"/api/tasks/{task}/annotations/", json={"result": result})
    return int(made["id"])


def ledger_of(backend: Backend) -> Ledger:
    return Ledger(f"sqlite:///{backend.environment['MASKLOOP_DATA_DIR']}/ledger.sqlite3")


def trained(ledger: Ledger, project: int) -> Training:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for training in ledger.trainings(project):
            if training.state.final and training.state is not TrainingState.NOTHING_NEW:
                return training
        time.sleep(1)
    raise AssertionError(ledger.trainings(project))


def predicted(account: Account, task: int, version: str) -> dict[str, Any]:
    """The prediction of a version; on a busy machine it is not in the answer but pushed afterwards."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = [p for p in account.call("GET", f"/api/predictions?task={task}") if p["model_version"] == version]
        if found:
            (mine,) = found
            return dict(mine)
        time.sleep(1)
    raise AssertionError(f"task {task} has no prediction of {version}")


def images(count: int) -> dict[str, bytes]:
    return {f"picture{k}.png": pictures.png(seed=k) for k in range(count)}


def test_events_that_were_lost_are_found_by_asking(
    studio: Studio, account: Account, token: str, tmp_path: Path
) -> None:
    project = account.create_project("Lost events", CONFIG)
    for name, content in images(3).items():
        account.upload(project, name, content)
    tasks = account.task_ids(project)
    kept, gone = submit(account, tasks[0]), submit(account, tasks[1])
    client = LabelStudioClient(studio.url, token)
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite3")
    assert reconcile(ledger, client, project, 10**8) == 2
    assert reconcile(ledger, client, project, 10**8) == 0
    late = submit(account, tasks[2])
    assert reconcile(ledger, client, project, 10**8) == 1
    found = {s.annotation: s for s in ledger.submissions(project)}
    assert set(found) == {kept, gone, late}
    assert found[kept].image.startswith("/data/upload/")
    assert (rle.decode(found[kept].regions[0].rle or b"", (pictures.HEIGHT, pictures.WIDTH)) > 0).sum() == masks()[
        0
    ].sum()
    account.call("DELETE", f"/api/annotations/{gone}/")
    reconcile(ledger, client, project, 10**8)
    assert gone in {s.annotation for s in ledger.submissions(project)}
    reconcile(ledger, client, project, 10**8, whole=True)
    assert {s.annotation for s in ledger.submissions(project)} == {kept, late}
    ledger.close()
    account.call("DELETE", f"/api/projects/{project}/")


@pytest.mark.slow
def test_submissions_make_a_version_that_fills_the_next_task_and_can_be_taken_back(
    account: Account, learner: Backend, new_project: NewProject
) -> None:
    made: Labeling = new_project(learner, images(13))
    ledger = ledger_of(learner)
    asked = requests.post(f"{learner.url}/setup", json={"project": f"{made.project}.1", "schema": CONFIG}, timeout=30)
    base = asked.json()["model_version"]
    for task in made.tasks[:12]:
        submit(account, task)
    end = time.monotonic() + 120
    while len(ledger.submissions(made.project)) < 12 and time.monotonic() < end:
        time.sleep(0.5)
    account.call("POST", f"/api/ml/{made.backend}/train")
    training = trained(ledger, made.project)
    if training.state.value == "kept":
        pytest.xfail(f"a training is bounded in time, and the gate saw no gain on this machine: {training.note}")
    assert training.state.value == "promoted", training.note
    fresh = made.tasks[12]
    project = account.call("GET", f"/api/projects/{made.project}/")
    assert project["model_version"] == training.version
    account.call("POST", f"/api/dm/actions?id=retrieve_tasks_predictions&project={made.project}",
                 json={"selectedItems": {"all": False, "included": [fresh]}})  # fmt: skip
    mine = predicted(account, fresh, str(training.version))
    assert 0 <= mine["score"] <= 1
    found = [rle.decode(r["value"]["rle"], (pictures.HEIGHT, pictures.WIDTH)) > 127 for r in mine["result"]]
    assert max((f & truth).sum() / (f | truth).sum() for f in found for truth in masks()) > 0.8
    program = Path(sys.executable).with_name("maskloop")
    environment = {**os.environ, **learner.environment}
    subprocess.run([program, "rollback", "--project", str(made.project)], env=environment, check=True)
    assert account.call("GET", f"/api/projects/{made.project}/")["model_version"] == base
    ledger.close()
