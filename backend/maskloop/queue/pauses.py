"""Where a job lets others go first: the clicks that wait, or everybody while it waits for something itself."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

_answer_clicks: ContextVar[Callable[[], None] | None] = ContextVar("answer_clicks", default=None)


class Later(Exception):
    """In the place of a job's outcome: it waits for ``ready``, say for an image on its way; ``why`` says so.

    The queue goes on with other jobs and runs this one again, from its start, when ``ready`` is done.
    """

    def __init__(self, ready: Future[Any], why: str) -> None:
        super().__init__(why)
        self.ready = ready


def let_clicks_pass() -> None:
    """Called by a job between two of its parts: whatever clicks wait are answered before it goes on.

    Nothing happens outside a queue's thread. The caller holds no lock.
    """
    answer = _answer_clicks.get()
    if answer is not None:
        answer()


def serve_pauses(answer_clicks: Callable[[], None]) -> None:
    """Said once by the thread that runs jobs: how to answer the clicks that wait, without waiting for one."""
    _answer_clicks.set(answer_clicks)
