"""Where a long job lets the clicks that wait go first, in the middle of its work."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

_answer_clicks: ContextVar[Callable[[], None] | None] = ContextVar("answer_clicks", default=None)


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
