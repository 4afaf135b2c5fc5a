"""The embedded queue: three lanes and one inference thread in the process."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field

from maskloop.queue.job import Busy, Expired, Handlers, Job, JobError, Priority, Result, Superseded
from maskloop.queue.pauses import Later, serve_pauses

log = logging.getLogger(__name__)

LANES = (Priority.INTERACTIVE, Priority.PREPARE, Priority.BATCH)


@dataclass(eq=False)
class _Waiting:
    job: Job
    priority: Priority
    future: Future[Result] = field(default_factory=Future)
    expires: float | None = None
    why: str = "the model is busy or too slow for this machine"
    since: float = field(default_factory=time.monotonic)


class LocalQueue:
    """A :class:`~maskloop.queue.job.JobQueue` without Redis.

    One thread runs one job at a time, so a click waits for at most the job that is running, or for its next pause.
    A job that has to wait for something itself is set aside meanwhile.
    ``limit`` bounds each lane: clicks beyond it are refused, other jobs are dropped. ``first`` is a job to begin with:
    until it or any other has succeeded, the queue is not ready.
    """

    def __init__(self, handlers: Handlers, limit: int = 256, first: Job | None = None) -> None:
        self._handlers = handlers
        self._limit = limit
        self._lanes: dict[Priority, deque[_Waiting]] = {lane: deque() for lane in LANES}
        self._keys: set[str] = set()
        self._wake = threading.Condition()
        self._closing = False
        self._first = first
        self._why_not = "the model is being loaded" if first else None
        if first:
            self._lanes[Priority.INTERACTIVE].append(_Waiting(first, Priority.INTERACTIVE))
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def call(self, job: Job, deadline: float, priority: Priority = Priority.INTERACTIVE) -> Result:
        waiting = _Waiting(job, priority, expires=time.monotonic() + deadline)
        with self._wake:
            self._admit(job)
            self._drop_superseded_by(job)
            lane = self._lanes[priority]
            if len(lane) >= self._limit:
                raise Busy(f"{len(lane)} clicks are waiting already; try again in a second", retry_after=1)
            lane.append(waiting)
            self._wake.notify()
        try:
            return waiting.future.result(timeout=deadline)
        except FutureTimeoutError:
            if waiting.future.cancel():
                with self._wake, contextlib.suppress(ValueError):  # it takes nobody's place any more
                    self._lanes[priority].remove(waiting)
            elif priority is Priority.BATCH:
                return waiting.future.result()
            raise Expired(f"no answer within {deadline:g} s: {waiting.why}") from None

    def enqueue(self, job: Job, priority: Priority) -> bool:
        with self._wake:
            self._admit(job)
            lane = self._lanes[priority]
            if (job.key is not None and job.key in self._keys) or len(lane) >= self._limit:
                return False
            if job.key is not None:
                self._keys.add(job.key)
            lane.append(_Waiting(job, priority))
            self._wake.notify()
            return True

    def depths(self) -> dict[str, int]:
        with self._wake:
            return {lane.value: len(waiting) for lane, waiting in self._lanes.items()}

    def ages(self) -> dict[str, float]:
        now = time.monotonic()
        with self._wake:
            return {lane.value: now - waiting[0].since if waiting else 0.0 for lane, waiting in self._lanes.items()}

    def ready(self) -> str | None:
        return self._why_not if self._thread.is_alive() else "the inference thread has stopped; restart the server"

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout=30)

    def _admit(self, job: Job) -> None:
        if self._closing:
            raise Busy("the server is shutting down", retry_after=5)
        if job.name not in self._handlers:
            raise JobError(f"no worker knows a job named {job.name!r}")

    def _drop_superseded_by(self, newer: Job) -> None:
        lane = self._lanes[Priority.INTERACTIVE]
        for waiting in [w for w in lane if newer.supersedes(w.job)]:
            lane.remove(waiting)
            waiting.future.set_exception(Superseded("a newer prompt took its place"))

    def _next(self) -> _Waiting | None:
        with self._wake:
            while True:
                for lane in LANES:
                    if self._lanes[lane]:
                        return self._lanes[lane].popleft()
                if self._closing:
                    return None
                self._wake.wait()

    def _run(self) -> None:
        serve_pauses(self._answer_clicks)
        while (waiting := self._next()) is not None:
            self._work(waiting)

    def _answer_clicks(self) -> None:
        """In the pause of a long job: the clicks that wait, one after the other."""
        while True:
            with self._wake:
                if not self._lanes[Priority.INTERACTIVE]:
                    return
                waiting = self._lanes[Priority.INTERACTIVE].popleft()
            self._work(waiting)

    def _work(self, waiting: _Waiting) -> None:
        job = waiting.job
        expired = waiting.expires is not None and time.monotonic() > waiting.expires
        begun = waiting.future.running()  # before it was set aside
        if expired and begun and waiting.priority is Priority.BATCH:
            expired = False  # it is waited for
        if not expired and (begun or waiting.future.set_running_or_notify_cancel()):
            later = self._finish(waiting)
            if later is not None:
                waiting.why = str(later)
                later.ready.add_done_callback(lambda _: self._resume(waiting))
                return
        if job.key is not None:
            with self._wake:
                self._keys.discard(job.key)

    def _resume(self, waiting: _Waiting) -> None:
        with self._wake:
            if self._closing:
                waiting.future.set_exception(Busy("the server is shutting down", retry_after=5))
                return
            self._lanes[waiting.priority].appendleft(waiting)
            self._wake.notify()

    def _finish(self, waiting: _Waiting) -> Later | None:
        """Run a job; why it has to be run again later, None when it has its outcome."""
        job = waiting.job
        try:
            (outcome,) = self._handlers[job.name]([job.payload])
        except Exception as error:  # one bad job must not end the thread that serves everybody
            outcome = error
        if isinstance(outcome, Later):
            return outcome
        if isinstance(outcome, Exception):
            if not isinstance(outcome, JobError):
                log.error("job %s failed", job.name, exc_info=outcome)
                outcome = JobError(f"{type(outcome).__name__}: {outcome}")
            elif waiting.expires is None:
                log.warning("job %s: %s", job.name, outcome)
            if job is self._first:
                self._why_not = str(outcome)
            waiting.future.set_exception(outcome)
        else:
            self._why_not = None
            waiting.future.set_result(outcome)
        return None
