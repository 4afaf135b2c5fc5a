"""Tasks of batches that are not really worked on: a worker that can be told to wait and to fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import text

from maskloop.jobs.batches import Batches
from maskloop.labelstudio.requests import PredictRequest
from maskloop.ledger import Ledger
from maskloop.queue.job import Away, JobError
from tests.jobs.test_preannotate import asked, box, prediction

Start = Callable[..., Batches]


class Work:
    """A "preannotate" whose answers name the task, and which can be told to wait, to fail, and to fail once."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.go_on = threading.Event()  # not `open`: whoever stops might close it after it was opened for good
        self.stop_after: int | None = None
        self.bad: set[int] = set()
        self.unlucky: set[int] = set()
        self.away: set[int] = set()
        self.always_away: set[int] = set()
        self.about: dict[str, Any] = {}

    def __call__(self, payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        (payload,) = payloads
        task = payload["task"]
        if self.stop_after == len(self.ran):
            self.go_on.wait(20)
        self.open.wait(20)
        self.ran.append(task)
        if task in self.bad or task in self.unlucky:
            self.unlucky.discard(task)
            return [JobError("the image is not reachable")]
        if task in self.away | self.always_away:
            self.away.discard(task)
            return [Away("the host took no connection")]
        answer = {"model_version": payload["version"], "score": 0.9, "result": [{"id": f"mask of {task}"}]}
        return [{**answer, **self.about}]


def request(*ids: int) -> PredictRequest:
    tasks = tuple(asked(id=id, predictions=[prediction(box("a"))]).tasks[0] for id in ids)
    return PredictRequest(3, asked().config, tasks)


def masks(answers: list[Any]) -> list[str | None]:
    return [answer["result"][0]["id"] if answer else None for answer in answers]


def wait_for(met: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not met():
        assert time.monotonic() < until
        time.sleep(0.02)


def take_over(ledger: Ledger, item: int) -> None:
    """What is left when a claim lapsed and another process took it: at once, or a thread here would be first."""
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE batch_item SET owner = 'another' WHERE id = :id"), {"id": item})
