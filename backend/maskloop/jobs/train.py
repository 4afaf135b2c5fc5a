"""One training, from the submissions to a version that has passed the gate or stays a candidate.

Runs in a process of its own (``python -m maskloop.jobs.train TRAINING OWNER TRAINER``, the last a process id), at the
lowest priority. It may be killed at any point: what it did is in a checkpoint, a version appears whole or not at all,
and the ledger gives the training to the next trainer.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import NoReturn

from maskloop.jobs import promotions, unread
from maskloop.jobs.handlers import build_workbench
from maskloop.jobs.material import collect
from maskloop.jobs.run import Run, Stopped
from maskloop.learn import report as reports
from maskloop.learn import samples as samples_of
from maskloop.learn.report import Outcome
from maskloop.learn.samples import HOLDOUT, TRAIN, Collected, LeftOut, Sample
from maskloop.learn.versions import Overtaken
from maskloop.ledger import BY_HAND, DatabaseError, Ledger, Signal, Training, TrainingState
from maskloop.log import configure
from maskloop.segment.card import read_card
from maskloop.settings import Settings

log = logging.getLogger(__name__)

LEAST_TRAINED = 3
"""Images to train on below which there is nothing to generalise from."""

TRAINABLE = frozenset({"clicknet", "sam"})
"""Families whose decoder can be retrained."""

VERSIONS_KEPT = 20
REPORTS_KEPT = 20
"""Reports of trainings that made no version, of one project."""


def train(settings: Settings, ledger: Ledger, training: Training, owner: str) -> TrainingState:
    """Do a claimed training from beginning to end, or go on where a killed one stopped.

    Raises DatabaseError when the ledger cannot be reached; the next attempt then goes on.
    """
    bench = build_workbench(settings)
    folder = settings.data_dir / "learning" / f"p{training.project}"
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(settings, ledger, training, owner, bench, folder)
    try:
        with run:
            return _train(run)
    except Stopped as stopped:
        if stopped.signal is Signal.CANCEL:
            return run.finish(TrainingState.CANCELLED, "cancelled")
        log.warning("training %d was taken over by another trainer", training.id)
        return TrainingState.CANCELLED
    except DatabaseError:
        # No fault of the training: closed as failed it would be done again from the beginning, even if it is current.
        raise
    except Exception as error:
        log.exception("training %d failed", training.id)
        return _end(run, TrainingState.FAILED, f"{type(error).__name__}: {error}", traceback.format_exc())


def _train(run: Run) -> TrainingState:
    by_hand = run.training.trigger == BY_HAND
    finished = _published_before(run)
    if finished is not None:
        return finished
    nothing_new = run.ledger.new_submissions(run.project) == 0 and not _too_little_before(run)
    if run.training.attempt == 1 and not by_hand and nothing_new:
        return run.finish(TrainingState.NOTHING_NEW, "no submission since the last training")
    collected = collect(run.bench, run.ledger, run.project, run.settings, run.report_images)
    run.left_out, collected = collected.left_out, unread.without_unread(collected)
    parts = samples_of.split(collected.samples, run.ledger.parts(run.project))
    run.ledger.record_parts(run.project, parts)
    trained = [s for s in collected.samples if parts[s.content] == TRAIN]
    held = [s for s in collected.samples if parts[s.content] == HOLDOUT]
    family = read_card(run.bench.catalog.folder(run.settings.model)).family
    too_little = ""
    if family not in TRAINABLE:
        too_little = f"model {run.settings.model} (family {family}) has no decoder that can be retrained"
    elif len(trained) < LEAST_TRAINED or not held:
        too_little = (
            f"{len(trained)} images to train on and {len(held)} to judge by; at least {LEAST_TRAINED} and 1 are needed"
        )
    if too_little:
        run.ledger.mark_trained(run.training.id, collected.forms, run.project)
        unread.remember(run.folder, run.training.id, len(unread.unread(run.left_out)))
        return _end(run, TrainingState.KEPT, too_little)
    return _publish(run, collected, trained, held)


def _too_little_before(run: Run) -> bool:
    """Whether the last run that did anything found too little: what it had looked at, nobody has learned from."""
    idle = (TrainingState.NOTHING_NEW, TrainingState.CANCELLED)
    ended = [one for one in run.ledger.trainings(run.project) if one.state.final and one.state not in idle]
    return bool(ended) and ended[0].state is TrainingState.KEPT and ended[0].version is None


def _end(run: Run, state: TrainingState, reason: str, detail: str = "") -> TrainingState:
    """Close a training that made no version; the note names the report of what was left out and why."""
    home, note = run.folder / "reports", reason
    if run.left_out:
        note += f"; {len(run.left_out)} left out: {run.left_out[0].reason}"
    outcome = Outcome(run.project, run.training.id, state.value, reason, run.left_out, detail)
    try:
        note += f"; report: {reports.write_outcome(home / str(run.training.id), outcome)}"
        for old in sorted(int(one.name) for one in home.iterdir() if one.name.isdigit())[:-REPORTS_KEPT]:
            shutil.rmtree(home / str(old), ignore_errors=True)
    except OSError as error:
        log.warning("training %d: its report could not be written: %s", run.training.id, error)
    return run.finish(state, note)


def _publish(run: Run, collected: Collected, trained: list[Sample], held: list[Sample]) -> TrainingState:
    from maskloop.jobs.lesson import learn

    learned = learn(run, collected, trained, held)
    run.report(0.99, "publishing")

    def fill(folder: Path) -> None:
        shutil.copytree(learned.folder, folder, dirs_exist_ok=True)
        reports.write(folder, learned.name, learned.report, learned.sheet)

    run.bench.versions.publish(run.project, run.serial, fill)
    finished = _published_before(run)
    assert finished is not None
    return finished


def _conclude(run: Run, folder: Path) -> TrainingState:
    """What follows once a version is published, as its report says; every step may be done again after a crash."""
    found = reports.read(folder)
    promote, reasons = bool(found["verdict"]["promote"]), list(found["verdict"]["reasons"])
    if promote and (why_not := _promote(run, found["started_from"])):
        promote, reasons = False, [why_not, *reasons]
    run.ledger.mark_trained(run.training.id, [(int(a), str(at)) for a, at in found["submissions"]], run.project)
    missing = unread.unread([LeftOut(**one) for one in found["left_out"]])
    unread.remember(run.folder, run.training.id, len(missing))
    state = TrainingState.PROMOTED if promote else TrainingState.KEPT
    run.finish(state, "; ".join(reasons), run.name)
    shutil.rmtree(run.folder / "candidate", ignore_errors=True)
    for rest in run.folder.glob("checkpoint.*"):
        rest.unlink(missing_ok=True)
    run.bench.versions.discard(run.project, VERSIONS_KEPT)
    return state


def _promote(run: Run, started_from: str) -> str:
    """Make the run's version current; why not, if somebody has chosen another one since the run began."""
    versions, version = run.bench.versions, run.name
    current = versions.current(run.project)
    # A version that was promoted before this attempt began, and rolled back since, is told by the ledger.
    withdrawn = any(version in (p.version, p.previous) for p in run.ledger.promotions(run.project))
    instead_of = {started_from, current} if run.bench.sound(current) == started_from else {started_from}
    if current != version:
        run.ask()
    allowed = () if withdrawn else instead_of
    try:
        promotions.promote(run.settings, run.ledger, versions, run.project, version, "gate", allowed)
    except Overtaken as error:
        return (
            f"the current version changed meanwhile: {error}, and this one was compared with {started_from}; "
            f"`maskloop promote {version} --project {run.project}` takes it all the same"
        )
    return ""


def _published_before(run: Run) -> TrainingState | None:
    """If an earlier attempt was killed after it had published: finish what it began."""
    for version in run.bench.versions.list(run.project):
        if version.name == run.name:
            return _conclude(run, version.folder)
    return None


def run_claimed(settings: Settings, training: int, owner: str) -> TrainingState:
    """Do the training that ``owner`` has claimed."""
    ledger = Ledger(settings.ledger_url)
    try:
        found = ledger.training(training)
        if found is None or found.owner != owner:
            log.warning("training %d is not %s's to do", training, owner)
            return TrainingState.CANCELLED
        return train(settings, ledger, found, owner)
    finally:
        ledger.close()


def _leave(*_: object) -> NoReturn:
    # The checkpoint is on disk; the trainer that sent the signal gives the training back.
    os._exit(143)


def _leave_with(trainer: int, settings: Settings, training: int, owner: str) -> None:
    """Give the training back and end when its trainer was killed: nobody looks at its time and memory any more."""
    while os.getppid() == trainer:
        time.sleep(0.5)
    log.warning("training %d: its trainer is gone; another one goes on from its checkpoint", training)
    try:
        Ledger(settings.ledger_url).release_training(training, owner, died=False)
    finally:
        _leave()


def main() -> None:
    os.nice(19)
    # Threads that spin while they wait for one that has no core take a hundred times as long on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGTERM, _leave)
    settings = Settings()
    configure(settings.log_level)
    training, owner, trainer = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    threading.Thread(target=_leave_with, args=(trainer, settings, training, owner), daemon=True).start()
    run_claimed(settings, training, owner)


if __name__ == "__main__":
    main()
