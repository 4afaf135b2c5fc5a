"""One claimed training in a process of its own, watched from outside: its time, its memory, its end."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
import uuid

import psutil
from pydantic import SecretStr

from maskloop.ledger import LAST_ATTEMPT, Ledger, Training, TrainingState
from maskloop.settings import Settings, environment_names

log = logging.getLogger(__name__)

GRACE = 1.5
"""A training that has not ended by itself after its time times this, plus a minute, is ended from outside."""


class Attempt:
    """A training that was claimed and begun. Either :meth:`over` becomes true, or it is given back."""

    def __init__(self, settings: Settings, ledger: Ledger, training: Training, owner: str) -> None:
        log.info("training %d of project %d begins (%s)", training.id, training.project, training.trigger)
        self.training = training
        self._settings = settings
        self._ledger = ledger
        self._owner = owner
        self._began = time.time()
        # A session of its own: Ctrl+C is for who watches it, and who gives it back.
        command = [sys.executable, "-m", "maskloop.jobs.train", str(training.id), owner, str(os.getpid())]
        self.process = subprocess.Popen(command, env=environment(settings), start_new_session=True)

    def over(self) -> bool:
        """Look at it: whether it has ended, or had to be ended; one that died is free to be taken up again."""
        code = self.process.poll()
        if code is None:
            if reason := self._too_much():
                end(self.process)
                self._fail(reason)
            return bool(reason)
        if code != 0 and self.training.attempt >= LAST_ATTEMPT:
            self._fail(f"given up: it died {LAST_ATTEMPT} times, at last with exit code {code}")
        elif code != 0:
            log.warning("training %d died with exit code %d; it is taken up again", self.training.id, code)
            self._ledger.release_training(self.training.id, self._owner, died=True)
        return True

    def _fail(self, reason: str) -> None:
        note = f"{reason}{self._report(reason)}"
        self._ledger.finish_training(self.training.id, self._owner, TrainingState.FAILED, note)
        log.warning("training %d failed: %s", self.training.id, reason)

    def _report(self, reason: str) -> str:
        """Leave the report that the training itself cannot write any more; where it is, for the note."""
        from maskloop.learn.report import Outcome, write_outcome  # matplotlib: not for a trainer that only watches

        training, state = self.training, TrainingState.FAILED.value
        folder = self._settings.data_dir / "learning" / f"p{training.project}" / "reports" / str(training.id)
        try:
            return f"; report: {write_outcome(folder, Outcome(training.project, training.id, state, reason))}"
        except OSError as error:
            log.warning("training %d: its report could not be written: %s", training.id, error)
            return ""

    def give_back(self) -> None:
        """End its process; another trainer goes on from the last checkpoint."""
        end(self.process)
        self._ledger.release_training(self.training.id, self._owner, died=False)

    def _too_much(self) -> str:
        seconds = time.time() - self._began
        limit = GRACE * 60 * self._settings.train_minutes + 60
        if seconds > limit:
            return f"it did not end within {limit:.0f} seconds (MASKLOOP_TRAIN_MINUTES)"
        with contextlib.suppress(psutil.Error):
            taken = psutil.Process(self.process.pid).memory_info()
            # Not the libraries it maps, of which CUDA has gigabytes; not every system tells them apart.
            memory = (taken.rss - getattr(taken, "shared", 0)) / 1e6
            if memory > self._settings.train_memory_mb:
                return f"it took {memory:.0f} MB, more than {self._settings.train_memory_mb} (MASKLOOP_TRAIN_MEMORY_MB)"
        return ""


def take_up(settings: Settings, ledger: Ledger, project: int | None = None) -> Attempt | None:
    """Claim and begin the next training that may start, or one whose trainer died; None if there is none."""
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    training = ledger.claim_training(owner, project)
    return None if training is None else Attempt(settings, ledger, training, owner)


def environment(settings: Settings) -> dict[str, str]:
    """The environment in which a child process reads the same settings."""
    given = dict(os.environ)
    for field, names in environment_names().items():
        value = getattr(settings, field)
        text = value.get_secret_value() if isinstance(value, SecretStr) else "" if value is None else str(value)
        for name in names:
            given.pop(name, None)
        if text:
            given[names[0]] = text
    return given


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL where that does not help."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
