"""A Redis that dies, hangs, or refuses what it is asked."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maskloop.queue import wire
from maskloop.queue.job import Busy, Job
from maskloop.queue.memory import RedisMemory
from maskloop.queue.outage import Outage
from maskloop.queue.redis import RedisQueue
from tests.queue.waiting import StartWorker, in_background, wait_until
from tests.redis_server import RedisServer, needs_redis

pytestmark = needs_redis


def test_redis_dying_and_coming_back(tmp_path: Path, start_worker: StartWorker) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        start_worker(at=server.url)
        queue = RedisQueue(server.url)
        before = queue.call(Job("echo", {"n": 1}), 5)["pid"]
        waiting, answers = in_background(queue, Job("echo", {"n": 2, "seconds": 1}))
        time.sleep(0.3)
        server.kill()
        began = time.monotonic()
        with pytest.raises(Busy, match="does not answer"):
            queue.call(Job("echo", {"n": 3}), 5)
        waiting.join()
        assert isinstance(answers[0], Busy)
        assert time.monotonic() - began < 5
        server.start()
        wait_until(lambda: queue.ready() is None)
        assert queue.call(Job("echo", {"n": 4}), 20)["pid"] == before, "the model was loaded again"
    finally:
        server.stop()


def test_when_redis_hangs_all_clicks_are_refused_in_time(tmp_path: Path, start_worker: StartWorker) -> None:
    server, outage = RedisServer(tmp_path), Outage()
    server.start()
    try:
        start_worker(at=server.url)
        queue, memory = RedisQueue(server.url, outage=outage), RedisMemory(server.url, outage)

        def click(number: int) -> float:
            """Seconds until it is refused; a gesture is looked up before."""
            began = time.monotonic()
            assert [memory.get(f"gesture {n}") for n in range(3)] == [None] * 3
            with pytest.raises(Busy, match="does not answer"):
                queue.call(Job("echo", {"n": number}, group="task 1", affinity="a"), 10)
            return time.monotonic() - began

        assert queue.call(Job("echo", {"n": 1}), 10)["n"] == 1
        server.hang()
        time.sleep(1.1)  # what is known of the workers is no longer fresh
        with ThreadPoolExecutor(20) as people:
            assert max(people.map(click, range(20))) < 10
        assert "does not answer" in (queue.ready() or "")
        server.go_on()
        wait_until(lambda: queue.ready() is None)
        assert queue.call(Job("echo", {"n": 2}), 20)["n"] == 2
    finally:
        server.stop()


def refused(queue: RedisQueue) -> str:
    with pytest.raises(Busy, match="refuses") as caught:
        queue.call(Job("echo", {"n": 0}), 5)
    assert caught.value.retry_after >= 1
    assert "refuses" in (queue.ready() or "")
    return str(caught.value)


def test_a_redis_that_refuses_is_waited_for(tmp_path: Path, start_worker: StartWorker) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        worker = start_worker(at=server.url)
        queue = RedisQueue(server.url)
        pid = queue.call(Job("echo", {"n": 1}), 10)["pid"]
        with wire.connect(server.url) as client:
            client.config_set("maxmemory", "1mb")
            assert "maxmemory" in refused(queue)
            client.config_set("maxmemory", "0")
            wait_until(lambda: queue.ready() is None)
            assert queue.call(Job("echo", {"n": 2}), 20)["pid"] == pid
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            assert "read only" in refused(queue)
            wait_until(lambda: not worker.workers())  # it could say nothing for a while
            client.execute_command("REPLICAOF", "NO", "ONE")
        wait_until(lambda: queue.ready() is None)
        assert queue.call(Job("echo", {"n": 3}), 20)["pid"] == pid, "the model was loaded again"
    finally:
        server.stop()
