from __future__ import annotations

import time

import redis

from maskloop.queue.memory import RedisMemory
from maskloop.queue.outage import Outage
from maskloop.queue.store import RedisStore
from tests.redis_server import free_port, needs_redis

pytestmark = needs_redis


def test_a_store_keeps_bytes_within_its_bound_and_drops_the_least_recently_used(url: str, client: redis.Redis) -> None:
    store = RedisStore(url, limit=250)
    store.set("a", b"a" * 100)
    store.set("b", b"b" * 100)
    assert store.get("a") == b"a" * 100
    store.set("c", b"c" * 100)
    assert (store.get("a"), store.get("b"), store.get("c")) == (b"a" * 100, None, b"c" * 100)
    assert int(client.get("maskloop:embedding-total") or 0) == 200


def test_writing_a_key_again_counts_once(url: str, client: redis.Redis) -> None:
    store = RedisStore(url, limit=250)
    for _ in range(5):
        store.set("a", b"a" * 100)
    assert int(client.get("maskloop:embedding-total") or 0) == 100


def test_what_is_larger_than_the_store_is_not_kept(url: str) -> None:
    store = RedisStore(url, limit=10)
    store.set("a", b"x" * 11)
    assert store.get("a") is None


def test_every_embedding_expires(url: str, client: redis.Redis) -> None:
    RedisStore(url, limit=1000).set("a", b"a")
    assert 0 < client.ttl("maskloop:embedding:a") <= 3600


def test_a_memory_is_shared_and_forgets(url: str) -> None:
    RedisMemory(url, Outage()).put("task 1", {"box": [1, 2]}, ttl=0.2)
    assert RedisMemory(url, Outage()).get("task 1") == {"box": [1, 2]}
    time.sleep(0.25)
    assert RedisMemory(url, Outage()).get("task 1") is None


def test_without_redis_nothing_is_remembered_and_nothing_raised() -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    store, memory = RedisStore(nowhere, limit=100), RedisMemory(nowhere, Outage())
    store.set("a", b"a")
    memory.put("a", {}, ttl=1)
    assert store.get("a") is None
    assert memory.get("a") is None
