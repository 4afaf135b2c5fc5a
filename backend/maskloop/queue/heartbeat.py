"""The signs of life of a worker: what it says in Redis, and the stamp that its supervisor watches."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable
from typing import Any, Protocol

from redis.exceptions import RedisError

from maskloop.queue import wire

HEARTBEAT_SECONDS = 1.0
SILENT_SECONDS = 5
"""A worker that said nothing for this long is taken for dead."""


class Stamp(Protocol):
    """A number shared with the supervisor: when the running job began or last made progress
    (time.monotonic()), 0.0 when idle, negative while the model is being loaded.
    """

    value: float


class Alive(threading.Thread):
    """Says every second, in Redis, that this worker lives, what it has loaded and whether it is ready."""

    def __init__(self, url: str, worker: str, about: Callable[[], dict[str, Any]]) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._redis = wire.connect(url)
        self._worker = worker
        self._about = about
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(RedisError):  # said again in a second, when Redis is back
                self.say(ready=True)
            self._over.wait(HEARTBEAT_SECONDS)

    def say(self, ready: bool) -> None:
        said = {"ready": ready, "pid": os.getpid(), "host": socket.gethostname(), **self._about()}
        with self._redis.pipeline() as pipe:
            pipe.set(wire.worker_key(self._worker), json.dumps(said), ex=SILENT_SECONDS)
            pipe.sadd(wire.WORKERS, self._worker)
            pipe.execute()

    def stop(self) -> None:
        """Take no more clicks meant for this worker; it still counts as alive until it has finished."""
        self._over.set()
        self.join()
        with contextlib.suppress(RedisError):
            self.say(ready=False)

    def forget(self) -> None:
        """The worker is gone: what it left is everybody's."""
        self._over.set()
        if self.is_alive():
            self.join()
        with contextlib.suppress(RedisError):
            self._redis.delete(wire.worker_key(self._worker))
