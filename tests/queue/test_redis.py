"""The queue that web processes see, against a real Redis and real worker processes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from maskloop.queue import wire
from maskloop.queue.job import Busy, Expired, Job, JobError, Priority, Superseded
from maskloop.queue.redis import RedisQueue
from tests.queue.waiting import StartWorker, in_background, wait_until
from tests.redis_server import needs_redis

pytestmark = needs_redis


def test_a_click_is_answered(url: str, start_worker: StartWorker) -> None:
    start_worker()
    queue = RedisQueue(url)
    assert queue.ready() is None
    assert queue.call(Job("echo", {"n": 7}), 5)["n"] == 7
    assert queue.depths() == {"interactive": 0, "prepare": 0, "batch": 0}


def test_failures_are_told_and_do_not_stop_the_worker(url: str, start_worker: StartWorker) -> None:
    worker = start_worker()
    queue = RedisQueue(url)
    before = worker.workers()
    with pytest.raises(JobError, match="not reachable"):
        queue.call(Job("refuse", {}), 5)
    with pytest.raises(JobError, match=r"no worker knows a job named 'os\.system'"):
        queue.call(Job("os.system", {"command": "true"}), 5)
    with pytest.raises(JobError, match="not plain JSON"):
        queue.call(Job("nonsense", {}), 5)
    assert queue.call(Job("echo", {"n": 1}), 5)["n"] == 1
    assert worker.workers().keys() == before.keys()


def test_nothing_is_left_in_redis(url: str, client: redis.Redis, start_worker: StartWorker) -> None:
    start_worker()
    queue = RedisQueue(url)
    for n in range(20):
        queue.call(Job("echo", {"n": n}, group="task 1", parts=frozenset(str(n)), affinity="a"), 5)
    queue.call(Job("echo", {"n": 20}), 5, Priority.BATCH)
    for pattern in ("rq:job:*", "rq:results:*", "rq:execution*", "maskloop:group:*", wire.PENDING):
        wait_until(lambda pattern=pattern: not client.keys(pattern))  # type: ignore[misc]  # it answers, then books


def test_without_a_worker_the_answer_comes_at_the_deadline_and_says_why(url: str, client: redis.Redis) -> None:
    queue = RedisQueue(url)
    assert "maskloop worker" in (queue.ready() or "")
    with pytest.raises(Expired, match="no worker is ready"):
        queue.call(Job("echo", {"n": 1}), 0.3)
    assert queue.depths()["interactive"] == 0
    assert not client.keys("rq:job:*")


def test_more_clicks_may_wait_than_a_client_has_connections_by_default(url: str) -> None:
    queue = RedisQueue(url)

    def click(number: int) -> Exception:
        with pytest.raises(JobError) as caught:
            queue.call(Job("echo", {"n": number}), 8)
        return caught.value

    with ThreadPoolExecutor(120) as people:
        assert {type(error) for error in people.map(click, range(120))} == {Expired}


def test_an_expired_click_is_never_run(url: str, start_worker: StartWorker) -> None:
    worker = start_worker()
    queue = RedisQueue(url)
    blocker, _ = in_background(queue, Job("echo", {"n": "blocker", "seconds": 1.0}))
    wait_until(lambda: worker.ran() == [["blocker"]])
    with pytest.raises(Expired, match="busy"):
        queue.call(Job("echo", {"n": "late"}), 0.2)
    blocker.join()
    assert queue.call(Job("echo", {"n": "next"}), 5)["n"] == "next"
    assert worker.ran() == [["blocker"], ["next"]]


def test_an_answer_that_comes_in_the_last_moment_is_taken(url: str, client: redis.Redis) -> None:
    queue = RedisQueue(url)
    ticket = queue._submit(Job("echo", {"n": 1}), Priority.INTERACTIVE, deadline=5)
    client.rpush(wire.reply_key(ticket.rq.id), wire.pack_outcome({"n": 1}))
    assert queue._wait(ticket, until=time.monotonic()) == {"n": 1}
    assert not client.keys("rq:job:*")


def test_a_job_whose_caller_died_expires_by_itself(url: str, client: redis.Redis, start_worker: StartWorker) -> None:
    queue = RedisQueue(url)
    queue._submit(Job("echo", {"n": "nobody waits"}), Priority.INTERACTIVE, deadline=0.5)
    wait_until(lambda: not client.keys("rq:job:*"))
    worker = start_worker()
    assert queue.call(Job("echo", {"n": "next"}), 5)["n"] == "next"
    assert worker.ran() == [["next"]]


def test_a_full_lane_refuses_and_says_when_to_come_back(url: str) -> None:
    queue = RedisQueue(url, limit=2)
    threads = [in_background(queue, Job("echo", {"n": n}), 1)[0] for n in range(2)]
    wait_until(lambda: queue.depths()["interactive"] == 2)
    with pytest.raises(Busy) as refusal:
        queue.call(Job("echo", {"n": 3}), 1)
    assert refusal.value.retry_after >= 1
    for thread in threads:
        thread.join()
    assert all(queue.enqueue(Job("echo", {"n": n}), Priority.PREPARE) for n in range(2))
    assert not queue.enqueue(Job("echo", {"n": 3}, key="image"), Priority.PREPARE)
    assert not client_has_once(url)


def client_has_once(url: str) -> bool:
    with wire.connect(url) as client:
        return bool(client.keys("maskloop:once:*"))


def test_a_newer_prompt_supersedes_only_its_own_older_ones(url: str, start_worker: StartWorker) -> None:
    worker = start_worker()
    queue = RedisQueue(url)
    blocker, _ = in_background(queue, Job("echo", {"n": "blocker", "seconds": 1.0}))
    wait_until(lambda: worker.ran() == [["blocker"]])
    older = in_background(queue, Job("echo", {"n": "older"}, group="task 1", parts=frozenset("a")))
    other = in_background(queue, Job("echo", {"n": "another annotator's"}, group="task 1", parts=frozenset("x")))
    elsewhere = in_background(queue, Job("echo", {"n": "another task"}, group="task 2", parts=frozenset("a")))
    wait_until(lambda: queue.depths()["interactive"] == 3)
    newer = in_background(queue, Job("echo", {"n": "newer"}, group="task 1", parts=frozenset("ab")))
    older[0].join(0.9)
    assert isinstance(older[1][0], Superseded)
    for thread, answers in (other, elsewhere, newer):
        thread.join()
        assert isinstance(answers[0], dict)
    blocker.join()
    assert "older" not in [n for batch in worker.ran() for n in batch]


def test_clicks_before_prepare_before_batch(url: str, start_worker: StartWorker) -> None:
    worker = start_worker(drain=1)
    queue = RedisQueue(url)
    blocker, _ = in_background(queue, Job("echo", {"n": "blocker", "seconds": 0.7}))
    wait_until(lambda: worker.ran() == [["blocker"]])
    batch, _ = in_background(queue, Job("echo", {"n": "batch"}), priority=Priority.BATCH)
    wait_until(lambda: queue.depths()["batch"] == 1)
    queue.enqueue(Job("echo", {"n": "prepare"}), Priority.PREPARE)
    assert queue.ages()["batch"] > 0
    queue.call(Job("echo", {"n": "click"}), 5)
    blocker.join()
    batch.join()
    assert worker.ran() == [["blocker"], ["click"], ["prepare"], ["batch"]]


def test_what_waits_is_drained_together_and_answered_apart(url: str, start_worker: StartWorker) -> None:
    worker = start_worker(drain=3)
    queue = RedisQueue(url)
    blocker, _ = in_background(queue, Job("echo", {"n": "blocker", "seconds": 1.0}))
    wait_until(lambda: worker.ran() == [["blocker"]])
    clicks = []
    for n in range(4):
        clicks.append(in_background(queue, Job("echo", {"n": n})))
        wait_until(lambda n=n: queue.depths()["interactive"] == n + 1)  # type: ignore[misc]
    other = in_background(queue, Job("refuse", {}))
    for thread, _ in [*clicks, other]:
        thread.join()
    blocker.join()
    assert [answers[0]["n"] for _, answers in clicks] == [0, 1, 2, 3]  # type: ignore[index]
    assert worker.ran() == [["blocker"], [0, 1, 2], [3]]
    assert isinstance(other[1][0], JobError)


def test_a_key_waits_once(url: str, start_worker: StartWorker) -> None:
    queue = RedisQueue(url)
    assert queue.enqueue(Job("echo", {"n": 1}, key="image 1"), Priority.PREPARE)
    assert not queue.enqueue(Job("echo", {"n": 1}, key="image 1"), Priority.PREPARE)
    worker = start_worker()
    wait_until(lambda: worker.ran() == [[1]] and not client_has_once(url))
    assert queue.enqueue(Job("echo", {"n": 2}, key="image 1"), Priority.PREPARE)


def test_a_strangers_pickle_is_refused_and_not_loaded(url: str, client: redis.Redis, start_worker: StartWorker) -> None:
    worker = start_worker()
    before = worker.workers()
    Queue("interactive", connection=client).enqueue("os.getpid")  # RQ's default serializer is pickle
    Queue("interactive", connection=client, serializer=JSONSerializer).enqueue("os.getpid")
    wait_until(lambda: not client.keys("rq:job:*"))
    assert RedisQueue(url).call(Job("echo", {"n": 1}), 5)["n"] == 1
    assert worker.workers().keys() == before.keys()
