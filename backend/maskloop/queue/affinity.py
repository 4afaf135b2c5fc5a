"""Which worker a click goes to: the one that holds the embedding of its image."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from typing import Any

from redis import Redis

from maskloop.queue.outage import Outage
from maskloop.queue.wire import WORKERS, as_text, worker_key

FRESH_SECONDS = 1.0
"""How long a process trusts what it knows about the live workers."""


def preferred(image: str, workers: Iterable[str]) -> str | None:
    """The worker an image belongs to, by rendezvous (highest random weight) hashing.

    When a worker comes or goes, only its own images move (Thaler and Ravishankar, 1998).
    """
    return max(workers, key=lambda worker: hashlib.sha256(f"{worker}\n{image}".encode()).digest(), default=None)


def live_workers(redis: Redis) -> dict[str, dict[str, Any]]:
    """What each worker with a heartbeat says of itself, by its name."""
    names = sorted(as_text(name) for name in redis.smembers(WORKERS))
    said = redis.mget([worker_key(name) for name in names]) if names else []
    return {name: json.loads(data) for name, data in zip(names, said, strict=True) if data}


class Workers:
    """The live and ready workers, asked for about once a second. Safe from any thread."""

    def __init__(self, redis: Redis, outage: Outage) -> None:
        self._redis = redis
        self._outage = outage
        self._found: tuple[dict[str, dict[str, Any]], float] = ({}, 0.0)

    def ready(self) -> dict[str, dict[str, Any]]:
        known, until = self._found
        if time.monotonic() > until:
            # Two threads may both ask. A lock here would make all wait one after the other for a Redis that hangs.
            with self._outage.watched():
                known = {name: said for name, said in live_workers(self._redis).items() if said["ready"]}
            self._found = (known, time.monotonic() + FRESH_SECONDS)
        return known

    def preferred(self, image: str | None) -> str | None:
        """The worker for an image; None when any will do (no image given, or one worker or none)."""
        workers = self.ready()
        return preferred(image, workers) if image is not None and len(workers) > 1 else None
