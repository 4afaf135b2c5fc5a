"""Keeps worker processes alive from outside: a process that hangs in C code can only be ended by another."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from maskloop.queue.heartbeat import Stamp

log = logging.getLogger(__name__)

LOAD_SECONDS = 600.0
LOOK_SECONDS = 0.25
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
STEADY_SECONDS = 60.0

WRONG_SETTING = 2
"""A process that ends with this says that a setting is wrong: before any was ready, another try changes nothing."""


@dataclass
class _Child:
    process: BaseProcess
    stamp: Stamp
    began: float = field(default_factory=time.monotonic)


class Supervisor:
    """Starts ``count`` processes of ``target(index, stamp, *args)`` and restarts each one that ends.

    Processes are spawned, never forked. One that is busy with a job and makes no progress for
    ``limit`` seconds (LOAD_SECONDS while it loads its model) is killed. The supervisor
    imports neither torch nor a model, so it stays small and cannot hang with them. Where the first
    processes end with WRONG_SETTING, it ends.
    """

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], count: int, limit: float) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._target = target
        self._args = args
        self._limit = limit
        self._children: list[_Child | None] = [None] * count
        self._start_at = [0.0] * count
        self._pause = [FIRST_PAUSE] * count
        self._over = threading.Event()
        self._were_ready = False
        self._status = 0

    def run(self) -> int:
        """Until SIGTERM or SIGINT; then each child finishes its job, or is killed after ``limit``.

        Returns the exit status: 0, or WRONG_SETTING.
        """
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._stop)
        while not self._over.is_set():
            for index in range(len(self._children)):
                self._look_after(index)
            self._over.wait(LOOK_SECONDS)
        running = [child.process for child in self._children if child and child.process.is_alive()]
        for process in running:
            process.terminate()
        until = time.monotonic() + self._limit
        for process in running:
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                log.error("worker process %s did not finish within %g s and is killed", process.pid, self._limit)
                process.kill()
                process.join()
        return self._status

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        self._over.set()

    def _look_after(self, index: int) -> None:
        child = self._children[index]
        now = time.monotonic()
        if child is None:
            if now >= self._start_at[index]:
                stamp = self._context.Value("d", -now, lock=False)
                process = self._context.Process(
                    target=self._target, args=(index, stamp, *self._args), name=f"worker-{index}"
                )
                process.start()
                self._children[index] = _Child(process, stamp)
        elif not child.process.is_alive():
            if child.process.exitcode == WRONG_SETTING and not self._were_ready:
                self._status = WRONG_SETTING
                self._over.set()
                return
            pause = self._pause[index] = (
                FIRST_PAUSE if now - child.began > STEADY_SECONDS else min(2 * self._pause[index], LONGEST_PAUSE)
            )
            log.error("worker process %s ended (%s); a new one starts in %g s", *_end(child.process), pause)
            self._children[index], self._start_at[index] = None, now + pause
        elif self._hangs(child, now):
            log.critical("worker process %s makes no progress and is killed", child.process.pid)
            child.process.kill()
            child.process.join()
        elif child.stamp.value >= 0:
            self._were_ready = True

    def _hangs(self, child: _Child, now: float) -> bool:
        stamp = child.stamp.value
        return stamp != 0.0 and now - abs(stamp) > (LOAD_SECONDS if stamp < 0 else self._limit)


def _end(process: BaseProcess) -> tuple[int | None, str]:
    code = process.exitcode
    return process.pid, signal.Signals(-code).name if code is not None and code < 0 else f"exit status {code}"


def end_with_parent() -> None:
    """In a child: stop as if asked to when the supervisor is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
