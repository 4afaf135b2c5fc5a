"""Calls that wait in threads of their own, and waiting for what comes about."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from maskloop.queue.job import Job, JobError, JobQueue, Priority
from tests.queue.process import WorkerProcess

StartWorker = Callable[..., WorkerProcess]


def in_background(
    queue: JobQueue, job: Job, deadline: float = 10, priority: Priority = Priority.INTERACTIVE
) -> tuple[threading.Thread, list[object]]:
    answers: list[object] = []

    def run() -> None:
        try:
            answers.append(queue.call(job, deadline, priority))
        except JobError as error:
            answers.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, answers


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)
