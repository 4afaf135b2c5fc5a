"""What becomes of a training once its lesson is over. The lesson, minutes of teaching, is a copy of the base here."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from maskloop.jobs import lesson, promotions
from maskloop.jobs.lesson import Learned
from maskloop.jobs.run import Run
from maskloop.jobs.train import run_claimed
from maskloop.jobs.trainer import request_due
from maskloop.jobs.unread import Unread, recall
from maskloop.learn import report as reports
from maskloop.learn.gate import Verdict
from maskloop.learn.report import Report
from maskloop.learn.samples import Collected, Sample
from maskloop.learn.versions import Versions
from maskloop.ledger import Ledger, Training, TrainingState
from maskloop.segment.catalog import Catalog
from maskloop.settings import Settings
from tests.jobs.learning_project import PROJECT, settings, submit
from tests.segment.checkpoints import save_model


@pytest.fixture
def of(tmp_path: Path) -> Settings:
    save_model(tmp_path / "models", "sam2")
    return settings(tmp_path, model="sam2", models_dir=tmp_path / "models")


@pytest.fixture
def ledger(of: Settings) -> Iterator[Ledger]:
    ledger = Ledger(of.ledger_url)
    yield ledger
    ledger.close()


@pytest.fixture
def versions(of: Settings) -> Versions:
    return Versions(of.data_dir / "versions", Catalog(of.models_dir, of.data_dir).version(of.model))


@pytest.fixture
def taught(of: Settings, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every lesson ends at once with a candidate that is better; the trainings that had one."""
    return teach(of, monkeypatch, lambda: None)


def teach(of: Settings, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object]) -> list[int]:
    seen: list[int] = []

    def learn(run: Run, collected: Collected, trained: Sequence[Sample], held: Sequence[Sample]) -> Learned:
        started_from = run.bench.sound(run.bench.versions.current(run.project))
        seen.append(run.training.id)
        meanwhile()
        candidate = run.folder / "candidate"
        shutil.rmtree(candidate, ignore_errors=True)
        shutil.copytree(run.bench.catalog.folder(of.model), candidate)
        report = Report(
            PROJECT, run.training.id, started_from, run.bench.base_version, 1, 1.0, 1,
            Verdict(True, ("better than the current version",), (), (), {}, 4, 2),
            [(0, 0.0, 0.1, 0.1)], {}, collected.left_out, collected.forms,
        )  # fmt: skip
        return Learned(run.name, candidate, report, [])

    monkeypatch.setattr(lesson, "learn", learn)
    return seen


def train(of: Settings, ledger: Ledger, trigger: str = "Start Training") -> Training:
    training = ledger.request_training(PROJECT, trigger)
    claimed = ledger.claim_training("me")
    assert claimed is not None
    run_claimed(of, claimed.id, "me")
    done = ledger.training(training.id)
    assert done is not None
    return done


def again(of: Settings, ledger: Ledger, training: int, died: bool = True) -> Training:
    """The training is given back and done by the next trainer."""
    ledger.release_training(training, "me", died)
    claimed = ledger.claim_training("me")
    assert claimed is not None
    assert claimed.id == training
    run_claimed(of, training, "me")
    done = ledger.training(training)
    assert done is not None
    return done


def fail_once(monkeypatch: pytest.MonkeyPatch, method: str, error: Exception) -> None:
    """The next call of a ledger's method raises, as it does when its server restarts at that moment."""
    real = getattr(Ledger, method)

    def fail(self: Ledger, *given: object, **named: object) -> object:
        monkeypatch.setattr(Ledger, method, real)
        raise error

    monkeypatch.setattr(Ledger, method, fail)


AWAY = OperationalError("UPDATE", {}, Exception("server closed the connection unexpectedly"))


class Killed(BaseException):
    """Stands for the end of the process."""


def promoted(of: Settings, ledger: Ledger, versions: Versions) -> str:
    """A version that is current, a copy of the base."""
    base = Catalog(of.models_dir, of.data_dir).folder(of.model)
    name = versions.publish(PROJECT, "0", lambda folder: shutil.copytree(base, folder, dirs_exist_ok=True) and None)
    promotions.promote(of, ledger, versions, PROJECT, name, "gate")
    return name


@pytest.mark.usefixtures("taught")
def test_what_is_better_is_promoted(tmp_path: Path, of: Settings, ledger: Ledger, versions: Versions) -> None:
    submit(tmp_path, ledger, 8)
    done = train(of, ledger)
    assert (done.state, done.version) == (TrainingState.PROMOTED, versions.current(PROJECT))
    assert ledger.new_submissions(PROJECT) == 0


def test_a_rollback_while_it_trains_is_not_overridden(
    tmp_path: Path, of: Settings, ledger: Ledger, versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(tmp_path, ledger, 8)
    before = promoted(of, ledger, versions)
    teach(of, monkeypatch, lambda: promotions.rollback(of, ledger, versions, PROJECT))
    done = train(of, ledger)
    assert done.state is TrainingState.KEPT
    assert "the current version changed meanwhile" in done.note
    assert before in done.note
    assert versions.current(PROJECT) == versions.base
    assert done.version in [version.name for version in versions.list(PROJECT)]


def test_a_rollback_of_what_a_killed_attempt_had_promoted_is_not_overridden(
    tmp_path: Path, of: Settings, ledger: Ledger, versions: Versions, taught: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(tmp_path, ledger, 8)
    fail_once(monkeypatch, "mark_trained", Killed())
    with pytest.raises(Killed):
        train(of, ledger)
    assert versions.current(PROJECT) != versions.base
    promotions.rollback(of, ledger, versions, PROJECT)
    assert again(of, ledger, taught[0]).state is TrainingState.KEPT
    assert versions.current(PROJECT) == versions.base


def test_a_cancel_at_the_last_moment_promotes_nothing(
    tmp_path: Path, of: Settings, ledger: Ledger, versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(tmp_path, ledger, 8)
    monkeypatch.setattr(Run, "_keep_lease", lambda self: None)  # its next look would come after the end
    teach(of, monkeypatch, lambda: ledger.cancel_training(PROJECT))
    assert train(of, ledger).state is TrainingState.CANCELLED
    assert versions.current(PROJECT) == versions.base


def test_a_kill_between_the_promotion_and_the_ledger_is_made_good(
    tmp_path: Path, of: Settings, ledger: Ledger, versions: Versions, taught: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(tmp_path, ledger, 8)
    fail_once(monkeypatch, "record_promotion", Killed())
    with pytest.raises(Killed):
        train(of, ledger)
    version = versions.current(PROJECT)
    assert version != versions.base
    assert ledger.promotions(PROJECT) == []
    done = again(of, ledger, taught[0])
    assert (done.state, done.version) == (TrainingState.PROMOTED, version)
    assert [(p.version, p.previous, p.by) for p in ledger.promotions(PROJECT)] == [(version, versions.base, "gate")]
    assert taught == [done.id], "taught once"


@pytest.mark.parametrize("method", ["mark_trained", "finish_training"])
def test_a_ledger_that_is_away_is_no_failure_of_the_training(
    tmp_path: Path,
    of: Settings,
    ledger: Ledger,
    versions: Versions,
    taught: list[int],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    submit(tmp_path, ledger, 8)
    fail_once(monkeypatch, method, AWAY)
    with pytest.raises(OperationalError):
        train(of, ledger)
    done = again(of, ledger, taught[0])
    assert (done.state, done.version) == (TrainingState.PROMOTED, versions.current(PROJECT))
    assert taught == [done.id], "taught once"


def test_a_trainer_that_is_stopped_before_the_end_is_told_finishes_it_the_next_time(
    tmp_path: Path, of: Settings, ledger: Ledger, versions: Versions, taught: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(tmp_path, ledger, 8)
    fail_once(monkeypatch, "finish_training", Killed())
    with pytest.raises(Killed):
        train(of, ledger)
    assert ledger.new_submissions(PROJECT) == 0
    done = again(of, ledger, taught[0], died=False)
    assert (done.state, done.version) == (TrainingState.PROMOTED, versions.current(PROJECT))


@pytest.mark.usefixtures("taught")
def test_a_damaged_current_version_is_trained_over(
    tmp_path: Path, of: Settings, ledger: Ledger, versions: Versions
) -> None:
    submit(tmp_path, ledger, 8)
    damaged = promoted(of, ledger, versions)
    for weights in (of.data_dir / "versions" / f"p{PROJECT}" / damaged).glob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:1000])
    done = train(of, ledger)
    assert (done.state, done.version) == (TrainingState.PROMOTED, versions.current(PROJECT))
    folder = versions.folder(versions.current(PROJECT))
    assert folder is not None
    assert reports.read(folder)["started_from"] == versions.base


@pytest.mark.slow
def test_a_lesson_that_began_from_a_damaged_version_begins_from_the_base(
    tmp_path: Path, of: Settings, ledger: Ledger, versions: Versions
) -> None:
    submit(tmp_path, ledger, 8)
    damaged = promoted(of, ledger, versions)
    for weights in (of.data_dir / "versions" / f"p{PROJECT}" / damaged).glob("*.safetensors"):
        weights.unlink()
    done = train(of, ledger)
    assert done.state in (TrainingState.PROMOTED, TrainingState.KEPT), done.note
    assert done.version is not None
    folder = versions.folder(done.version)
    assert folder is not None
    assert reports.read(folder)["started_from"] == versions.base


def test_images_that_were_away_are_trained_when_they_are_back(
    tmp_path: Path, of: Settings, ledger: Ledger, taught: list[int]
) -> None:
    submit(tmp_path, ledger, 12)
    os.rename(tmp_path / "images", tmp_path / "away")
    (tmp_path / "images").mkdir()
    done = train(of, ledger)
    assert done.state is TrainingState.KEPT
    assert "12 left out: its image cannot be read" in done.note
    assert ledger.new_submissions(PROJECT) == 12
    (tmp_path / "images").rmdir()
    os.rename(tmp_path / "away", tmp_path / "images")
    assert train(of, ledger).state is TrainingState.PROMOTED
    assert ledger.new_submissions(PROJECT) == 0
    assert recall(of.data_dir / "learning" / f"p{PROJECT}").count == 0
    assert len(taught) == 1


@pytest.mark.usefixtures("taught")
def test_an_image_that_was_away_stays_new_and_is_asked_for_after_longer_and_longer_pauses(
    tmp_path: Path, of: Settings, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(tmp_path, ledger, 12)
    for number in (1, 2, 3):
        (tmp_path / "images" / f"{number}.png").unlink()
    done = train(of, ledger)
    assert (done.state, ledger.new_submissions(PROJECT)) == (TrainingState.PROMOTED, 3)
    folder = of.data_dir / "learning" / f"p{PROJECT}"
    assert recall(folder) == Unread(3, 1, done.id)
    often = of.model_copy(update={"train_after": 3, "train_cooldown_seconds": 1000.0})
    request_due(ledger, often)
    assert ledger.claim_training("me") is None, "the cooldown holds"
    ledger.cancel_training(PROJECT)
    with monkeypatch.context() as patch:
        ended = ledger.last_training_at(PROJECT)
        patch.setattr(time, "time", lambda: ended + 1500)
        request_due(ledger, often)
        assert ledger.claim_training("me") is None, "twice"
        patch.setattr(time, "time", lambda: ended + 2500)
        assert ledger.claim_training("me") is not None
    ledger.cancel_training(PROJECT)
    ledger.finish_training(ledger.trainings(PROJECT)[0].id, "me", TrainingState.CANCELLED, "cancelled")
    done = train(of, ledger)
    assert recall(folder) == Unread(3, 2, done.id)


@pytest.mark.usefixtures("taught")
def test_start_training_is_heard_after_a_run_that_found_too_little(
    tmp_path: Path, of: Settings, ledger: Ledger
) -> None:
    submit(tmp_path, ledger, 2)
    first, second = train(of, ledger), train(of, ledger)
    assert (first.state, second.state) == (TrainingState.KEPT, TrainingState.KEPT)
    assert "at least 3" in second.note
    submit(tmp_path, ledger, 6, first=3)
    assert train(of, ledger).state is TrainingState.PROMOTED
    assert train(of, ledger).state is TrainingState.NOTHING_NEW


def test_a_run_that_makes_no_version_leaves_a_report_of_everything_left_out(
    tmp_path: Path, of: Settings, ledger: Ledger
) -> None:
    submit(tmp_path, ledger, 3)
    for number in (1, 2, 3):
        found = ledger.submission(PROJECT, number)
        assert found is not None
        regions = tuple(replace(region, rle=b"\xff\xff\xff") for region in found.regions)
        ledger.record_submission(replace(found, updated_at="2026-12-01T00:00:00Z", regions=regions))
    done = train(of, ledger)
    folder = of.data_dir / "learning" / f"p{PROJECT}" / "reports" / str(done.id)
    assert done.note.endswith(f"report: {folder / 'report.md'}")
    assert {one["annotation"] for one in reports.read(folder)["left_out"]} == {1, 2, 3}
    text = (folder / "report.md").read_text()
    assert all(f"| {number} | r1 |" in text for number in (1, 2, 3))


def test_a_failed_run_leaves_a_report_and_reports_do_not_pile_up(
    tmp_path: Path,
    of: Settings,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, "maskloop.jobs.train")  # several processes cannot pass this text on

    def fail() -> None:
        raise RuntimeError("no \ud800 such tensor")

    monkeypatch.setattr("maskloop.jobs.train.REPORTS_KEPT", 2)
    submit(tmp_path, ledger, 8)
    teach(of, monkeypatch, fail)
    runs = [train(of, ledger) for _ in range(3)]
    assert {run.state for run in runs} == {TrainingState.FAILED}
    home = of.data_dir / "learning" / f"p{PROJECT}" / "reports"
    assert sorted(path.name for path in home.iterdir()) == [str(run.id) for run in runs[1:]]
    text = (home / str(runs[-1].id) / "report.md").read_text()
    assert "RuntimeError: no ? such tensor" in text
    assert "Traceback" in text
