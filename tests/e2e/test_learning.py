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
from tests.e2e.editor import Editor
from tests.e2e.pictures import Ringed

PATIENCE = 1200.0
OUTPUT = LabelConfig.parse(CONFIG).output()


@pytest.fixture
def learner(studio: Studio, token: str, tmp_path: Path) -> Iterator[Backend]:
    settings = {
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": token,
        "OMP_NUM_THREADS": "1",
        "MASKLOOP_TRAIN_MINUTES": "6",  # on a machine that does other work too, half of it comes as far
        "MASKLOOP_TRAIN_COOLDOWN_SECONDS": "0",
        "MASKLOOP_POLL_SECONDS": "5",
    }
    with Backend(tmp_path / "data", settings) as backend:
        yield backend


def submit(account: Account, task: int, shown: Ringed) -> int:
    assert OUTPUT is not None
    result = [
        {
            "id": f"m{number}", "type": "brushlabels", "from_name": OUTPUT.name, "to_name": OUTPUT.to_name,
            "original_width": pictures.WIDTH, "original_height": pictures.HEIGHT, "image_rotation": 0,
            "value": {"format": "rle", "rle": list(rle.encode(mask)), "brushlabels": [OUTPUT.labels[0]]},
        }
        for number, mask in enumerate(shown.masks)
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


def ringed(count: int) -> dict[str, Ringed]:
    return {f"picture{k:02}.png": pictures.ringed(k) for k in range(1, count + 1)}


def uploaded(account: Account, tasks: list[int], shown: dict[str, Ringed]) -> list[tuple[int, Ringed]]:
    """The tasks with what their image shows; Label Studio puts a prefix before the name of a file."""
    names = {task: account.call("GET", f"/api/tasks/{task}/")["data"]["image"] for task in tasks}
    return [(task, next(one for name, one in shown.items() if names[task].endswith(name))) for task in tasks]


def fit(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def test_events_that_were_lost_are_found_by_asking(
    studio: Studio, account: Account, token: str, tmp_path: Path
) -> None:
    project = account.create_project("Lost events", CONFIG)
    for name, one in ringed(3).items():
        account.upload(project, name, one.png())
    (first, shown), second, third = uploaded(account, account.task_ids(project), ringed(3))
    kept, gone = submit(account, first, shown), submit(account, *second)
    client = LabelStudioClient(studio.url, token)
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.sqlite3")
    assert reconcile(ledger, client, project, 10**8) == 2
    assert reconcile(ledger, client, project, 10**8) == 0
    late = submit(account, *third)
    assert reconcile(ledger, client, project, 10**8) == 1
    found = {s.annotation: s for s in ledger.submissions(project)}
    assert set(found) == {kept, gone, late}
    assert found[kept].image.startswith("/data/upload/")
    drawn = rle.decode(found[kept].regions[0].rle or b"", (pictures.HEIGHT, pictures.WIDTH)) > 127
    assert (drawn == shown.masks[0]).all()
    account.call("DELETE", f"/api/annotations/{gone}/")
    reconcile(ledger, client, project, 10**8)
    assert gone in {s.annotation for s in ledger.submissions(project)}
    reconcile(ledger, client, project, 10**8, whole=True)
    assert {s.annotation for s in ledger.submissions(project)} == {kept, late}
    ledger.close()
    account.call("DELETE", f"/api/projects/{project}/")


@pytest.mark.slow
def test_submissions_make_a_version_that_knows_what_is_meant_and_can_be_taken_back(
    account: Account, learner: Backend, new_project: NewProject, editor: Editor
) -> None:
    shown = ringed(19)
    made: Labeling = new_project(learner, {name: one.png() for name, one in shown.items()})
    ledger = ledger_of(learner)
    (by_hand, drawn), *others, early, fresh, late = uploaded(account, made.tasks, shown)

    def one_click(on: tuple[int, Ringed]) -> tuple[str, float]:
        """The version that answers a click into a core, and how well its mask fits."""
        task, one = on
        editor.open(made.project, task)
        answer = editor.point(*one.centres[0], through=True)  # what is proposed lies under the click
        editor.reject()
        return answer.version, fit(answer.mask.pixels, one.masks[0])

    base, before = one_click(early)
    assert before < 0.5, "the base is to take the ring with it, or nothing is to be learned"

    editor.open(made.project, by_hand)
    for centre, truth in zip(drawn.centres, drawn.masks, strict=True):
        across = centre[0] + float(150 * np.sqrt(truth.sum() / np.pi) / pictures.WIDTH)
        editor.point(*centre)
        corrected = editor.point(across, centre[1], negative=True, through=True)
        assert fit(corrected.mask.pixels, truth) > 0.8
        editor.accept()
    editor.submit()
    for task, one in others:
        submit(account, task, one)
    end = time.monotonic() + 120
    while len(ledger.submissions(made.project)) < 16 and time.monotonic() < end:
        time.sleep(0.5)
    account.call("POST", f"/api/ml/{made.backend}/train")
    training = trained(ledger, made.project)
    assert training.state.value == "promoted", training.note
    assert account.call("GET", f"/api/projects/{made.project}/")["model_version"] == training.version

    version, after = one_click(fresh)
    assert version == training.version
    assert after > before + 0.3

    account.call("POST", f"/api/dm/actions?id=retrieve_tasks_predictions&project={made.project}",
                 json={"selectedItems": {"all": False, "included": [late[0]]}})  # fmt: skip
    mine = predicted(account, late[0], str(training.version))
    assert 0 <= mine["score"] <= 1
    found = [rle.decode(r["value"]["rle"], (pictures.HEIGHT, pictures.WIDTH)) > 127 for r in mine["result"]]
    assert max(fit(mask, truth) for mask in found for truth in late[1].masks) > 0.8

    program = Path(sys.executable).with_name("maskloop")
    environment = {**os.environ, **learner.environment}
    subprocess.run([program, "rollback", "--project", str(made.project)], env=environment, check=True)
    assert account.call("GET", f"/api/projects/{made.project}/")["model_version"] == base
    assert one_click(late)[0] == base
    ledger.close()
