"""Embeddings that every machine shares through Redis."""

from __future__ import annotations

import logging
import time

from redis.exceptions import RedisError

from maskloop.queue import wire

log = logging.getLogger(__name__)

EMBEDDING_SECONDS = 3600

PUT = """
local function forget(key)
  local size = redis.call('HGET', KEYS[3], key)
  if size then redis.call('DECRBY', KEYS[4], size) redis.call('HDEL', KEYS[3], key) end
  redis.call('ZREM', KEYS[2], key)
end
forget(KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], KEYS[1])
redis.call('HSET', KEYS[3], KEYS[1], #ARGV[1])
local total = redis.call('INCRBY', KEYS[4], #ARGV[1])
while total > tonumber(ARGV[2]) do
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
  if not oldest then break end
  redis.call('DEL', oldest)
  forget(oldest)
  total = tonumber(redis.call('GET', KEYS[4]))
end
"""


class RedisStore:
    """Embeddings that every machine sees: at most ``limit`` bytes, the least recently used go first.

    One that nobody asks for is forgotten after an hour. Losing any of it only costs time, so
    a Redis that does not answer is a miss.
    """

    def __init__(self, url: str, limit: int) -> None:
        self._redis = wire.connect(url)
        self._limit = limit
        self._put = self._redis.register_script(PUT)
        self._used, self._sizes, self._total = (f"maskloop:embedding-{name}" for name in ("used", "sizes", "total"))

    def get(self, key: str) -> bytes | None:
        name = self._name(key)
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.getex(name, ex=EMBEDDING_SECONDS)
                pipe.zadd(self._used, {name: time.time()}, xx=True)
                found: bytes | None = pipe.execute()[0]
                return found
        except RedisError as error:
            log.warning("no embedding from Redis: %s", error)
            return None

    def set(self, key: str, value: bytes) -> None:
        if len(value) > self._limit:
            return
        keys = [self._name(key), self._used, self._sizes, self._total]
        try:
            self._put(keys=keys, args=[value, self._limit, time.time(), EMBEDDING_SECONDS])
        except RedisError as error:
            log.warning("an embedding is not shared: %s", error)

    @staticmethod
    def _name(key: str) -> str:
        return f"maskloop:embedding:{key}"
