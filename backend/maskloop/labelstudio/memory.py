"""What is remembered between two requests, for seconds or minutes: losing it only costs a gesture."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol


class Memory(Protocol):
    """Small plain JSON by key, forgotten after a while. Shared by all web processes where there are several."""

    def get(self, key: str) -> dict[str, Any] | None: ...

    def put(self, key: str, value: dict[str, Any], ttl: float) -> None:
        """Remember ``value`` for ``ttl`` seconds."""
        ...


class LocalMemory:
    """A memory for one process: at most ``limit`` entries, the oldest goes first. Safe to share between threads."""

    def __init__(self, limit: int = 1024, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> dict[str, Any] | None:
        with self._lock:
            until, value = self._entries.get(key, (0.0, None))
            if value is not None and until <= self._clock():
                del self._entries[key]
                return None
            return value

    def put(self, key: str, value: dict[str, Any], ttl: float) -> None:
        with self._lock:
            self._entries.pop(key, None)
            self._entries[key] = (self._clock() + ttl, value)
            while len(self._entries) > self._limit:
                self._entries.popitem(last=False)
