"""What the last gesture left, shared by all web processes through Redis."""

from __future__ import annotations

import json
import logging
from typing import Any

from redis.exceptions import RedisError

from maskloop.queue import wire
from maskloop.queue.outage import Outage

log = logging.getLogger(__name__)


class RedisMemory:
    """Small plain JSON by key, the same for all web processes. What cannot be read was forgotten."""

    def __init__(self, url: str, outage: Outage) -> None:
        self._redis = wire.connect(url)
        self._outage = outage

    def get(self, key: str) -> dict[str, Any] | None:
        try:
            with self._outage.watched():
                found = self._redis.get(self._name(key))
        except RedisError as error:
            log.warning("a gesture's memory is out of reach: %s", error)
            return None
        value: dict[str, Any] | None = json.loads(found) if found else None
        return value

    def put(self, key: str, value: dict[str, Any], ttl: float) -> None:
        try:
            with self._outage.watched():
                self._redis.set(self._name(key), json.dumps(value), px=max(1, round(1000 * ttl)))
        except RedisError as error:
            log.warning("a gesture is not remembered: %s", error)

    @staticmethod
    def _name(key: str) -> str:
        return f"maskloop:memory:{key}"
