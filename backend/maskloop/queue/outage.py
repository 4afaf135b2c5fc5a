"""What a process remembers of a Redis that does not answer, so that not everybody has to wait to find out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

REMEMBERED_SECONDS = 1.0


class Outage:
    """Shared by everything in a process that asks one Redis. Safe from any thread.

    A command to a Redis that hangs fails after seconds. Whoever notices saves the others the wait:
    for a second their commands fail at once, then somebody tries again.
    """

    def __init__(self) -> None:
        self._last: tuple[float, Exception] | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around commands. Raises redis' ConnectionError or TimeoutError, at once if one was raised just now."""
        if self._last is not None and time.monotonic() < self._last[0]:
            raise RedisConnectionError(str(self._last[1]))
        try:
            yield
        except (RedisConnectionError, RedisTimeoutError) as error:
            self._last = (time.monotonic() + REMEMBERED_SECONDS, error)
            raise
