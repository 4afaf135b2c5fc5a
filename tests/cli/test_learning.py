from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from maskloop.jobs.attempt import environment
from maskloop.ledger import Ledger, Training, TrainingState
from maskloop.ledger.tables import TrainingRow
from tests.jobs.learning_project import PROJECT, settings, submit

TRAIN = [sys.executable, "-m", "maskloop", "train", "--project", str(PROJECT)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(settings(tmp_path).ledger_url)
    yield ledger
    ledger.close()


def killed(ledger: Ledger, seconds_ago: float) -> Training:
    """A training by hand whose process was killed."""
    training = ledger.request_training(PROJECT, "by hand")
    assert ledger.claim_training("dead") is not None

    def beat(session: Session) -> None:
        row = session.get(TrainingRow, training.id)
        assert row is not None
        row.heartbeat = time.time() - seconds_ago

    ledger._write(beat)
    return training


@pytest.mark.parametrize("seconds_ago", [61.0, 57.0])
def test_a_run_that_was_killed_is_finished_before_the_one_that_is_asked_for(
    tmp_path: Path, ledger: Ledger, seconds_ago: float
) -> None:
    submit(tmp_path, ledger, 2)
    dead = killed(ledger, seconds_ago)
    done = subprocess.run(
        TRAIN, env=environment(settings(tmp_path)), capture_output=True, text=True, timeout=120, check=True
    )
    asked, finished = ledger.trainings(PROJECT)
    assert (finished.id, finished.state) == (dead.id, TrainingState.KEPT)
    assert asked.state is TrainingState.KEPT
    assert f"training {asked.id}: kept" in done.stdout
    assert "at least 3" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_taken_up_is_given_back_when_it_is_stopped(
    tmp_path: Path, ledger: Ledger, number: signal.Signals
) -> None:
    submit(tmp_path, ledger, 8)
    dead = killed(ledger, 61)
    process = subprocess.Popen(TRAIN, env=environment(settings(tmp_path)), stdout=subprocess.DEVNULL)
    until = time.time() + 120
    while (found := ledger.training(dead.id)) is not None and found.owner == "dead" and time.time() < until:
        time.sleep(0.1)
    process.send_signal(number)
    assert process.wait(60) != 0
    found = ledger.training(dead.id)
    assert found is not None
    assert (found.state, found.heartbeat, found.attempt) == (TrainingState.RUNNING, 0.0, 1)
