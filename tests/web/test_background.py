from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from maskloop.web.background import Background


class Work:
    """Notes what it is given, when it is let; fails on -1."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, items: Sequence[int]) -> None:
        self.begun.set()
        self.open.wait(20)
        if -1 in items:
            raise ValueError("unlucky")
        self.done += items


def test_everything_is_done_in_order_before_it_closes() -> None:
    work = Work()
    background = Background("numbers", work, 100)
    assert all(background.put(number) for number in range(50))
    work.open.set()
    background.close()
    assert work.done == list(range(50))


def test_what_is_too_much_is_refused_and_closing_does_not_wait_for_ever() -> None:
    work = Work()
    background = Background("numbers", work, 2)
    assert background.put(0)
    assert work.begun.wait(20)
    assert [background.put(number) for number in (1, 2, 3)] == [True, True, False]
    background.close(seconds=0.05)
    assert work.done == []
    work.open.set()
    background.close()
    assert work.done == [0, 1, 2]


def test_a_failure_costs_what_was_given_with_it(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    work.open.set()
    background = Background("numbers", work, 10)
    background.put(-1)
    while "unlucky" not in caplog.text:
        time.sleep(0.01)
    background.put(1)
    background.close()
    assert work.done == [1]
