"""The trainer: decides when a project is trained, and runs each training in a process of its own.

It holds no model and imports no torch. In the embedded shape the server starts it beside itself; scaled out
it is a service. Any number of trainers may watch one ledger: a training is claimed by one of them.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time

from maskloop.jobs import promotions, unread
from maskloop.jobs.attempt import Attempt, environment, take_up
from maskloop.jobs.reconcile import Reconciler
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.ledger import Ledger, TrainingState
from maskloop.log import configure
from maskloop.settings import Settings

log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
FORGET_EVERY = 3600.0
PREDICTIONS_KEPT = 90 * 86_400.0
"""Seconds for which an answered mask is remembered: until it was submitted, and what it took has been measured."""

BATCHES_KEPT = 30 * 86_400.0
"""Seconds for which it is told how a batch went."""

TELL_AGAIN_EVERY = 120.0
"""Seconds between two tries to tell a Label Studio that was away which versions are current."""

LONGEST_PAUSE = 8
"""How often the cooldown doubles at most."""

RESTART_SECONDS = 5.0
"""The pause before a trainer that ended beside its server is started again."""


class Trainer:
    """Watches a ledger. :meth:`step` does one round; :meth:`run` does rounds until told to stop."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._attempt: Attempt | None = None
        self._forgot = self._told = 0.0
        key = settings.label_studio_api_key.get_secret_value()
        can_ask = bool(settings.label_studio_url and key and settings.poll_seconds > 0)
        client = LabelStudioClient(settings.label_studio_url, key) if can_ask else None
        pixels = settings.max_image_megapixels * 1_000_000
        self._reconciler = Reconciler(ledger, client, pixels) if client is not None else None

    def run(self, stop: threading.Event) -> None:
        """Rounds until ``stop`` is set; a running training is given back then."""
        try:
            while not stop.wait(ROUND_SECONDS):
                try:
                    self.step()
                except Exception:
                    log.exception("the trainer's round failed; it goes on")
        finally:
            self._give_back()

    def step(self) -> None:
        """One round of all it looks after: what is old, untold, lost, due, waiting or running."""
        now = time.time()
        if now - self._forgot > FORGET_EVERY:
            self._ledger.forget_predictions(before=now - PREDICTIONS_KEPT)
            self._ledger.forget_batches(before=now - BATCHES_KEPT)
            self._forgot = now
        if self._attempt is not None and self._attempt.over():
            self._attempt = None
        if now - self._told > TELL_AGAIN_EVERY:
            self._told = now
            promotions.tell_again(self._settings, self._ledger)
        if self._reconciler is not None:
            self._reconciler.look(self._settings.poll_seconds)
        if self._settings.train:
            request_due(self._ledger, self._settings)
        if self._attempt is None:
            self._attempt = take_up(self._settings, self._ledger)

    @property
    def busy(self) -> bool:
        """Whether a training runs."""
        return self._attempt is not None

    def _give_back(self) -> None:
        if self._attempt is not None:
            self._attempt.give_back()
            self._attempt = None


def request_due(ledger: Ledger, settings: Settings) -> None:
    """Ask for a training of every project with enough new submissions, not before its cooldown is over.

    While one runs nothing is asked for: what it trains on still counts as new, and its end begins the cooldown.

    The cooldown doubles with every training in a row that failed, and with every one that could not read the
    submissions in question.
    """
    for project in ledger.projects():
        new = ledger.new_submissions(project)
        if new >= settings.train_after and not ledger.is_training(project):
            last, states = ledger.last_training_at(project), [t.state for t in ledger.trainings(project, 8)]
            ended = [state for state in states if state.final]
            failed = next((n for n, state in enumerate(ended) if state is not TrainingState.FAILED), len(ended))
            left = unread.recall(settings.data_dir / "learning" / f"p{project}")
            pauses = failed if new - left.count >= settings.train_after else max(failed, min(left.runs, LONGEST_PAUSE))
            not_before = last + settings.train_cooldown_seconds * 2**pauses if last else time.time()
            ledger.request_training(project, f"{new} new submissions", not_before)


class Companion:
    """The trainer beside a server, in a process of its own that is started again when it ends."""

    def __init__(self, settings: Settings, pause: float = RESTART_SECONDS) -> None:
        self._settings = settings
        self._pause = pause
        self._over = threading.Event()
        self._lock = threading.Lock()
        self.process = start(settings)
        threading.Thread(target=self._look_after, name="trainer", daemon=True).start()

    def stop(self) -> None:
        """Tell it to end; it is not started again."""
        self._over.set()
        with self._lock:
            self.process.terminate()

    def _look_after(self) -> None:
        while not self._over.wait(self._pause):
            if (code := self.process.poll()) is None:
                continue
            log.warning("the trainer ended with exit code %d; it is started again", code)
            with self._lock:
                if not self._over.is_set():
                    self.process = start(self._settings)


def start(settings: Settings) -> subprocess.Popen[bytes]:
    """Start the trainer beside a server. It ends when told to (SIGTERM) and when the server is gone."""
    command = [sys.executable, "-m", "maskloop.jobs.trainer", "--beside", str(os.getpid())]
    return subprocess.Popen(command, env=environment(settings), start_new_session=True)


def serve(settings: Settings, beside: int | None = None) -> None:
    """Be the trainer until SIGTERM or SIGINT, or until the process ``beside`` is gone."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if beside is not None:
        threading.Thread(target=_wait_for_end, args=(beside, stop), daemon=True).start()
    ledger = Ledger(settings.ledger_url)
    try:
        Trainer(settings, ledger).run(stop)
    finally:
        ledger.close()


def _wait_for_end(process: int, stop: threading.Event) -> None:
    while os.getppid() == process and not stop.wait(0.5):
        pass
    stop.set()


def main() -> None:
    settings = Settings()
    configure(settings.log_level)
    beside = int(sys.argv[2]) if sys.argv[1:2] == ["--beside"] else None
    serve(settings, beside)


if __name__ == "__main__":
    main()
