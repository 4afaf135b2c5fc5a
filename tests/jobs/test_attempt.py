from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from maskloop.jobs.attempt import Attempt, take_up
from maskloop.ledger import LAST_ATTEMPT, Ledger, Training, TrainingState
from tests.jobs.learning_project import PROJECT, left_behind, settings, submit


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(settings(tmp_path).ledger_url)
    yield ledger
    ledger.close()


def begun(folder: Path, ledger: Ledger) -> Attempt:
    ledger.request_training(PROJECT, "Start Training")
    attempt = take_up(settings(folder), ledger)
    assert attempt is not None
    return attempt


def found(ledger: Ledger, attempt: Attempt) -> Training:
    training = ledger.training(attempt.training.id)
    assert training is not None
    return training


def wait(attempt: Attempt) -> None:
    until = time.time() + 120
    while not attempt.over():
        assert time.time() < until
        time.sleep(0.05)


def test_nothing_that_waits_is_nothing_to_take_up(tmp_path: Path, ledger: Ledger) -> None:
    assert take_up(settings(tmp_path), ledger) is None
    ledger.request_training(PROJECT, "Start Training")
    assert take_up(settings(tmp_path), ledger, PROJECT + 1) is None


def test_one_that_takes_too_much_memory_is_ended(tmp_path: Path, ledger: Ledger) -> None:
    attempt = begun(tmp_path, ledger)
    attempt._settings = settings(tmp_path).model_copy(update={"train_memory_mb": 1})  # less than the least allowed
    wait(attempt)
    training = found(ledger, attempt)
    assert training.state is TrainingState.FAILED
    assert "MASKLOOP_TRAIN_MEMORY_MB" in training.note


def test_one_that_dies_is_taken_up_again_and_one_given_back_does_not_count(tmp_path: Path, ledger: Ledger) -> None:
    attempt = begun(tmp_path, ledger)
    attempt.process.kill()
    wait(attempt)
    second = take_up(settings(tmp_path), ledger, PROJECT)
    assert second is not None
    assert second.training.attempt == 2
    second.give_back()
    third = take_up(settings(tmp_path), ledger, PROJECT)
    assert third is not None
    assert third.training.attempt == 2
    wait(third)
    assert found(ledger, third).state.final


def test_one_whose_trainer_was_killed_ends_and_is_given_back(tmp_path: Path, ledger: Ledger) -> None:
    ledger.request_training(PROJECT, "Start Training")
    submit(tmp_path, ledger, 8)
    code = (
        "from maskloop.jobs.attempt import take_up; from maskloop.ledger import Ledger;"
        "from maskloop.settings import Settings; own = Settings();"
        "child = take_up(own, Ledger(own.ledger_url)).process.pid"
    )
    training = left_behind(settings(tmp_path), code)
    until = time.time() + 120
    while psutil.pid_exists(training):
        assert time.time() < until
        time.sleep(0.1)
    again = ledger.claim_training("me")
    assert again is not None
    assert again.attempt == 1, "given back, not lapsed"


def test_one_that_died_too_often_leaves_a_report(tmp_path: Path, ledger: Ledger) -> None:
    attempt = begun(tmp_path, ledger)
    for count in range(1, LAST_ATTEMPT + 1):
        attempt.process.kill()
        wait(attempt)
        training = found(ledger, attempt)
        assert training.state.final == (count == LAST_ATTEMPT)
        attempt = take_up(settings(tmp_path), ledger) or attempt
    assert training.state is TrainingState.FAILED
    report = Path(training.note.partition("report: ")[2])
    assert "exit code -9" in report.read_text()
    assert take_up(settings(tmp_path), ledger) is None
