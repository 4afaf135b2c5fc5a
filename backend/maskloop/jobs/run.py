"""One training under way: what it needs, how far it is, and the lease that says it is alive."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from maskloop.jobs.workbench import Workbench
from maskloop.learn.samples import LeftOut
from maskloop.ledger import Ledger, Signal, Training, TrainingState
from maskloop.settings import Settings

log = logging.getLogger(__name__)

REPORT_EVERY = 2.0


class Stopped(Exception):
    """The training was cancelled, or taken over by another trainer."""

    def __init__(self, signal: Signal) -> None:
        super().__init__(signal.value)
        self.signal = signal


@dataclass
class Run:
    """One training with everything it needs. While it is entered as a context, it keeps the ledger's lease."""

    settings: Settings
    ledger: Ledger
    training: Training
    owner: str
    bench: Workbench
    folder: Path
    left_out: tuple[LeftOut, ...] = ()
    began: float = field(default_factory=time.monotonic)
    _progress: tuple[float, str] = (0.0, "")
    _answer: Signal = Signal.GO_ON
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def project(self) -> int:
        return self.training.project

    @property
    def serial(self) -> str:
        """Of this request and no other: a ledger that was lost or restored counts its trainings anew."""
        asked = datetime.fromtimestamp(self.training.requested_at, timezone.utc)
        return f"{asked:%Y%m%d.%H%M}.{self.training.id}"

    @property
    def seed(self) -> int:
        return self.training.id

    @property
    def name(self) -> str:
        """The name of the version this training makes."""
        return f"{self.bench.base_version}-p{self.project}-{self.serial}"

    def __enter__(self) -> Run:
        # A thread of its own: a single step may take longer than the lease on a busy machine.
        threading.Thread(target=self._keep_lease, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _keep_lease(self) -> None:
        while not self._over.is_set() and self._answer is Signal.GO_ON:
            try:
                self._answer = self.ledger.report_progress(self.training.id, self.owner, *self._progress)
            except Exception:
                log.exception("training %d could not reach the ledger; trying again", self.training.id)
            self._over.wait(REPORT_EVERY)

    def report(self, progress: float, note: str) -> None:
        """Say how far it is. Raises Stopped when it shall not go on."""
        self._progress = (progress, note)
        if self._answer is not Signal.GO_ON:
            raise Stopped(self._answer)

    def ask(self) -> None:
        """Ask the ledger at once, not at the lease's next turn. Raises Stopped when it shall not go on."""
        self._answer = self.ledger.report_progress(self.training.id, self.owner, *self._progress)
        self.report(*self._progress)

    def report_images(self, count: int) -> None:
        """Say how many images have been read."""
        self.report(min(0.1, 0.001 * count), f"read {count} images")

    def finish(self, state: TrainingState, note: str, version: str | None = None) -> TrainingState:
        # A label in it may hold what no database takes.
        note = note.replace("\0", "").encode("utf-8", "replace").decode()
        self.ledger.finish_training(self.training.id, self.owner, state, note, version)
        log.info("training %d of project %d: %s; %s", self.training.id, self.project, state.value, note)
        return state
