from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from maskloop.jobs.train import run_claimed
from maskloop.jobs.trainer import Companion, Trainer, request_due
from maskloop.learn import report
from maskloop.learn.versions import Versions
from maskloop.ledger import Ledger, Prediction, Region, Submission, TrainingState
from maskloop.segment.catalog import Catalog
from maskloop.segment.prompt import Point, Prompt
from maskloop.settings import Settings
from tests.jobs.learning_project import PROJECT, left_behind, settings, submit
from tests.segment.checkpoints import save_model

NEEDS_WEIGHTS = pytest.mark.skipif(
    "clicknet" not in Catalog(Settings().models_dir).names(), reason="models/clicknet is missing"
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(settings(tmp_path).ledger_url)
    yield ledger
    ledger.close()


def versions(of: Settings) -> Versions:
    return Versions(of.data_dir / "versions", Catalog(of.models_dir, of.data_dir).version(of.model))


def wait(ledger: Ledger, trainer: Trainer, training: int, seconds: float = 300) -> TrainingState:
    until = time.time() + seconds
    while time.time() < until:
        trainer.step()
        found = ledger.training(training)
        if found is not None and found.state.final and not trainer.busy:
            return found.state
        time.sleep(0.2)
    raise AssertionError(f"not finished: {ledger.training(training)}")


def test_a_training_is_asked_for_when_enough_is_new_and_not_before_the_cooldown_is_over(
    tmp_path: Path, ledger: Ledger
) -> None:
    set_up = settings(tmp_path, train_after=3, train_cooldown_seconds=1000)
    submit(tmp_path, ledger, 2)
    request_due(ledger, set_up)
    assert ledger.trainings() == []
    submit(tmp_path, ledger, 2, first=3)
    request_due(ledger, set_up)
    request_due(ledger, set_up)
    assert len(ledger.trainings()) == 1
    claimed = ledger.claim_training("me")
    assert claimed is not None
    request_due(ledger, set_up)
    assert len(ledger.trainings()) == 1, "what runs takes these submissions"
    ledger.finish_training(claimed.id, "me", TrainingState.FAILED, "")
    request_due(ledger, set_up)
    assert ledger.claim_training("me") is None
    request_due(ledger, settings(tmp_path, train_after=3, train_cooldown_seconds=0))
    assert ledger.claim_training("me") is not None


def test_nothing_new_is_not_trained_again(tmp_path: Path, ledger: Ledger) -> None:
    submit(tmp_path, ledger, 2)
    ledger.mark_trained(99, ledger.known_forms(PROJECT).items(), PROJECT)
    training = ledger.request_training(PROJECT, "Start Training")
    assert ledger.claim_training("me") is not None
    assert run_claimed(settings(tmp_path), training.id, "me") is TrainingState.NOTHING_NEW


def test_a_training_that_somebody_else_has_is_left_alone(tmp_path: Path, ledger: Ledger) -> None:
    training = ledger.request_training(PROJECT, "Start Training")
    ledger.claim_training("other")
    assert run_claimed(settings(tmp_path), training.id, "me") is TrainingState.CANCELLED
    assert ledger.training(training.id).state is TrainingState.RUNNING  # type: ignore[union-attr]


def test_odd_submissions_alone_are_reported_and_not_tried_again(tmp_path: Path, ledger: Ledger) -> None:
    odd = Region("r", "brushlabels", "Disc", 128, 96, rle=b"\xff\xff\xff\xff\x39\x1b\xff\x00")
    huge = Region("h", "brushlabels", "Disc", 12000, 9000, rle=b"\x00\x01\x02")
    submit(tmp_path, ledger, 1)
    image = str(tmp_path / "images" / "1.png")
    ledger.record_submission(Submission(PROJECT, 1, 1, "2026-11-24T10:00:00Z", image, (odd, huge)))
    ledger.record_submission(Submission(PROJECT, 2, 2, "2026-11-23T10:00:00Z", "", ()))
    training = ledger.request_training(PROJECT, "Start Training")
    ledger.claim_training("me")
    assert run_claimed(settings(tmp_path), training.id, "me") is TrainingState.KEPT
    assert "left out" in ledger.training(training.id).note  # type: ignore[union-attr]
    assert ledger.new_submissions(PROJECT) == 0


@NEEDS_WEIGHTS
def test_a_model_without_a_decoder_to_train_says_so(tmp_path: Path, ledger: Ledger) -> None:
    submit(tmp_path, ledger, 6)
    training = ledger.request_training(PROJECT, "Start Training")
    ledger.claim_training("me")
    assert run_claimed(settings(tmp_path, model="graphcut"), training.id, "me") is TrainingState.KEPT
    assert "no decoder that can be retrained" in ledger.training(training.id).note  # type: ignore[union-attr]


def test_old_predictions_are_forgotten(tmp_path: Path, ledger: Ledger) -> None:
    shown = Prediction(PROJECT, 1, "r", "click", 1, "v1", 0.9)
    ledger.record_predictions([replace(shown, at=1.0), replace(shown, at=time.time() - 86_400)])
    trainer = Trainer(settings(tmp_path, train=False), ledger)
    trainer.step()
    assert len(ledger.predictions(PROJECT, 1)) == 1


def test_a_trainer_that_died_beside_its_server_is_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    companion = Companion(settings(tmp_path), pause=0.05)
    first = companion.process
    first.kill()
    until = time.time() + 60
    while companion.process is first and time.time() < until:
        time.sleep(0.02)
    second = companion.process
    assert second is not first
    assert "started again" in caplog.text
    companion.stop()
    second.wait(60)
    time.sleep(0.2)
    assert companion.process is second, "not once the server stops"


def test_the_trainer_ends_when_its_server_is_gone(tmp_path: Path, ledger: Ledger) -> None:
    imports = "from maskloop.jobs import trainer; from maskloop.settings import Settings"
    trainer = left_behind(settings(tmp_path), f"{imports}; child = trainer.start(Settings()).pid")
    until = time.time() + 30
    while time.time() < until and psutil.pid_exists(trainer):
        time.sleep(0.1)
    assert not psutil.pid_exists(trainer)


@NEEDS_WEIGHTS
@pytest.mark.slow
def test_a_training_that_takes_too_much_memory_is_ended(tmp_path: Path, ledger: Ledger) -> None:
    submit(tmp_path, ledger, 8)
    training = ledger.request_training(PROJECT, "Start Training")
    trainer = Trainer(settings(tmp_path, train_memory_mb=256), ledger)
    assert wait(ledger, trainer, training.id) is TrainingState.FAILED
    note = ledger.training(training.id).note  # type: ignore[union-attr]
    assert "MASKLOOP_TRAIN_MEMORY_MB" in note
    assert "MASKLOOP_TRAIN_MEMORY_MB" in Path(note.rpartition("report: ")[2]).read_text()


@pytest.mark.parametrize("model", [pytest.param("clicknet", marks=NEEDS_WEIGHTS), "sam2"])
@pytest.mark.slow
def test_a_killed_training_is_done_once_and_whole(tmp_path: Path, ledger: Ledger, model: str) -> None:
    """Kill -9 the training's process again and again, at points spread over its whole way."""
    set_up = settings(tmp_path)
    if model != "clicknet":
        save_model(tmp_path / "models", model)
        set_up = settings(tmp_path, model=model, models_dir=tmp_path / "models")
    submit(tmp_path, ledger, 8)
    found = versions(set_up)
    training = ledger.request_training(PROJECT, "Start Training")
    for wanted in (0.05, 0.4):
        trainer = Trainer(set_up, ledger)
        until = time.time() + 120
        while time.time() < until:
            trainer.step()
            now = ledger.training(training.id)
            assert now is not None
            if now.state.final or now.progress >= wanted:
                break
            time.sleep(0.05)
        running = trainer._attempt
        if running is None:
            break
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        ledger.request_training(PROJECT, "Start Training")  # the event comes twice
        trainer.step()
        for version in found.list(PROJECT):
            assert (version.folder / report.REPORT).is_file()
        if trainer.busy:
            trainer._give_back()
    trainer = Trainer(set_up, ledger)
    state = wait(ledger, trainer, training.id)
    assert state in (TrainingState.PROMOTED, TrainingState.KEPT)
    (version,) = found.list(PROJECT)
    assert ledger.training(training.id).version == version.name  # type: ignore[union-attr]
    assert found.current(PROJECT) == (version.name if state is TrainingState.PROMOTED else found.base)
    assert ledger.new_submissions(PROJECT) == 0
    numbers = report.read(version.folder)
    used = {content for images in numbers["used"].values() for content, _, _ in images}
    assert len(used) == 8
    segmenter = Catalog(set_up.models_dir).load(version.folder)
    answer = segmenter.decode(segmenter.encode(np.full((64, 64, 3), 90, np.uint8)), Prompt((Point(30, 30),)))
    assert answer.mask.shape == (64, 64)
    for other in ledger.trainings(PROJECT):
        if other.id != training.id:
            assert wait(ledger, trainer, other.id) is TrainingState.NOTHING_NEW
    assert len(found.list(PROJECT)) == 1
