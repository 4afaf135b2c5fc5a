"""One training, from the submissions to a version that has passed the gate or stays a candidate.

Runs in a process of its own (``python -m maskloop.jobs.train TRAINING OWNER``), at the lowest priority. It may be
killed at any point: what it did is in a checkpoint, a version appears whole or not at all, and the ledger
gives the training to the next trainer.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from maskloop.jobs import promotions
from maskloop.jobs.handlers import build_workbench
from maskloop.jobs.material import collect
from maskloop.jobs.run import Run, Stopped
from maskloop.learn import report as reports
from maskloop.learn import samples as samples_of
from maskloop.learn.samples import HOLDOUT, TRAIN, Collected, Sample
from maskloop.ledger import Ledger, Signal, Training, TrainingState
from maskloop.segment.card import read_card
from maskloop.settings import Settings

log = logging.getLogger(__name__)

LEAST_TRAINED = 3
"""Images to train on below which there is nothing to generalise from."""

TRAINABLE = frozenset({"clicknet", "sam"})
"""Families whose decoder can be retrained."""

VERSIONS_KEPT = 20


def train(settings: Settings, ledger: Ledger, training: Training, owner: str) -> TrainingState:
    """Do a claimed training from beginning to end, or go on where a killed one stopped."""
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
    except Exception as error:
        log.exception("training %d failed", training.id)
        return run.finish(TrainingState.FAILED, f"{type(error).__name__}: {error}")


def _train(run: Run) -> TrainingState:
    by_hand = run.training.trigger == "by hand"
    if run.training.attempt == 1 and not by_hand and run.ledger.new_submissions(run.project) == 0:
        return run.finish(TrainingState.NOTHING_NEW, "no submission since the last training")
    finished = _published_before(run)
    if finished is not None:
        return finished
    collected = collect(run.bench, run.ledger, run.project, run.settings, run.report_images)
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
        left = f"; left out: {collected.left_out[0].reason}" if collected.left_out else ""
        return run.finish(TrainingState.KEPT, too_little + left)
    return _publish(run, collected, trained, held)


def _publish(run: Run, collected: Collected, trained: list[Sample], held: list[Sample]) -> TrainingState:
    from maskloop.jobs.lesson import learn

    learned = learn(run, collected, trained, held)
    run.report(0.99, "publishing")

    def fill(folder: Path) -> None:
        shutil.copytree(learned.folder, folder, dirs_exist_ok=True)
        reports.write(folder, learned.name, learned.report, learned.sheet)

    published = run.bench.versions.publish(run.project, run.serial, fill)
    return _conclude(run, published, learned.report.verdict.promote, learned.report.verdict.reasons, collected.forms)


def _conclude(
    run: Run, version: str, promote: bool, reasons: Sequence[str], forms: Sequence[tuple[int, str]]
) -> TrainingState:
    """What follows once a version is published; every step may be done again after a crash."""
    if promote:
        promotions.promote(run.settings, run.ledger, run.bench.versions, run.project, version, "gate")
    run.ledger.mark_trained(run.training.id, forms, run.project)
    state = TrainingState.PROMOTED if promote else TrainingState.KEPT
    run.finish(state, "; ".join(reasons), version)
    shutil.rmtree(run.folder / "candidate", ignore_errors=True)
    (run.folder / "checkpoint.safetensors").unlink(missing_ok=True)
    run.bench.versions.discard(run.project, VERSIONS_KEPT)
    return state


def _published_before(run: Run) -> TrainingState | None:
    """If an earlier attempt was killed after it had published: finish what it began."""
    for version in run.bench.versions.list(run.project):
        if version.name == run.name:
            found = reports.read(version.folder)
            forms = [(int(a), str(at)) for a, at in found["submissions"]]
            return _conclude(run, run.name, bool(found["verdict"]["promote"]), found["verdict"]["reasons"], forms)
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


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> None:
    os.nice(19)
    # One core is left to those who click meanwhile. Said before torch comes, which a training with nothing new spares.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() - 1)))
    signal.signal(signal.SIGTERM, _leave)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    settings = Settings()
    logging.getLogger("maskloop").setLevel(settings.log_level)
    run_claimed(settings, int(sys.argv[1]), sys.argv[2])


if __name__ == "__main__":
    main()
