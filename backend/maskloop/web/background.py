"""What a request leaves to be done behind it: bounded, in order, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Background(Generic[T]):
    """Hands to ``work`` all that waits, again and again. What it raises is logged, and costs only what it was given.

    Args:
        name: of the thread, and for the log.
        most: how much may wait.
    """

    def __init__(self, name: str, work: Callable[[Sequence[T]], None], most: int) -> None:
        self._work = work
        self._most = most
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> bool:
        """Leave something to be done; False when too much waits already."""
        with self._changed:
            if len(self._waiting) >= self._most:
                return False
            self._waiting.append(item)
            self._changed.notify()
            return True

    def close(self, seconds: float = 10.0) -> None:
        """Do what waits, for so many seconds at most, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout=seconds)

    def _run(self) -> None:
        while items := self._all():
            try:
                self._work(items)
            except Exception:
                log.exception("%s: %d could not be done", self._thread.name, len(items))

    def _all(self) -> Sequence[T]:
        """All that waits, as soon as there is something; nothing when nothing is to come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            items = tuple(self._waiting)
            self._waiting.clear()
            return items
