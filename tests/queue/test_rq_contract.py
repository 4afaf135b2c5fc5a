"""What MaskLoop relies on in RQ, private hooks included. A new RQ that breaks one of these breaks a worker.

Overridden in GpuWorker: execute_job, dequeue_job_and_maintain_ttl, dequeue_timeout, request_stop,
run_maintenance_tasks, subscribe. Called: prepare_execution, prepare_job_execution, handle_job_success,
Queue.dequeue_any, Queue.enqueue_job, Job.get_executions, Execution.delete. Read: _ordered_queues,
_stop_requested, Job.worker_name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from packaging.specifiers import SpecifierSet
from rq import Queue, SimpleWorker
from rq.exceptions import NoSuchJobError
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from maskloop.queue import wire
from maskloop.queue.job import Away, Job, JobError, Payload, Priority, Result, Superseded
from maskloop.queue.pauses import let_clicks_pass, serve_pauses
from maskloop.queue.redis import RedisQueue
from maskloop.queue.worker import GpuWorker
from tests.redis_server import needs_redis

pytestmark = needs_redis


class Stamp:
    value = 0.0


def burst(url: str, **handlers: Any) -> GpuWorker:
    """Run what waits, in this process."""
    worker = GpuWorker(url, handlers, Stamp())
    worker.work(burst=True, logging_level="WARNING")
    return worker


@pytest.fixture(autouse=True)
def _signal_handlers() -> Any:
    import signal

    kept = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    yield
    for signum, handler in kept.items():
        signal.signal(signum, handler)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("execute_job", ["self", "job", "queue"]),
        ("dequeue_job_and_maintain_ttl", ["self", "timeout", "max_idle_time"]),
        ("request_stop", ["self", "signum", "frame"]),
        ("run_maintenance_tasks", ["self"]),
        ("subscribe", ["self"]),
        ("prepare_execution", ["self", "job"]),
        ("prepare_job_execution", ["self", "job", "remove_from_intermediate_queue"]),
        ("handle_job_success", ["self", "job", "queue", "started_job_registry", "execution"]),
    ],
)
def test_the_hooks_still_look_like_this(name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(SimpleWorker, name)).parameters) == parameters


def test_no_rq_without_these_hooks_can_be_installed() -> None:
    """2.12 calls handle_job_success without an execution; what 4 does nobody knows."""
    (asked,) = re.findall(r'"rq([<>=][^"]*)"', Path("pyproject.toml").read_text())
    allowed = SpecifierSet(asked)
    assert [version in allowed for version in ("2.12.0", "3.0.0", "4.0.0")] == [False, True, False]


def test_a_worker_of_several_queues_pops_without_a_safety_net(url: str, client: redis.Redis) -> None:
    """Why there is a sweeper: between pop and start the job is in no list at all."""
    lanes = [Queue(name, connection=client, serializer=JSONSerializer) for name in ("a", "b")]
    job = lanes[1].enqueue("echo", {})
    assert Queue.dequeue_any(lanes, None, connection=client, serializer=JSONSerializer) is not None
    assert client.lrange(lanes[1].key, 0, -1) == client.lrange(lanes[1].intermediate_queue_key, 0, -1) == []
    assert job.get_status() == "queued"
    assert len(GpuWorker(url, {}, Stamp()).queues) > 1


def test_rq_would_call_an_unserialisable_answer_a_success_and_ours_is_an_error(url: str, client: redis.Redis) -> None:
    lane = Queue("a", connection=client, serializer=JSONSerializer)
    job = lane.enqueue("tests.queue.test_rq_contract.a_set")
    SimpleWorker([lane], connection=client, serializer=JSONSerializer).work(burst=True, logging_level="WARNING")
    assert job.latest_result().return_value == "Unserializable return value"
    with pytest.raises(JobError, match="not plain JSON"):
        wire.unpack_outcome(wire.pack_outcome({"answer": {1}}))
    with pytest.raises(JobError, match="not plain JSON"):
        wire.unpack_outcome(wire.pack_outcome({"score": float("nan")}))


def a_set() -> set[int]:
    return {1}


def test_a_json_job_may_name_anything_and_nothing_is_imported_for_it(url: str, client: redis.Redis) -> None:
    lane = Queue("interactive", connection=client, serializer=JSONSerializer)
    lane.enqueue("tests.queue.test_rq_contract.a_set")
    burst(url)
    assert not client.keys("rq:job:*")


def test_a_job_that_ends_leaves_nothing_in_rqs_books(url: str, client: redis.Redis) -> None:
    RedisQueue(url).enqueue(Job("echo", {"n": 1}), Priority.BATCH)
    burst(url, echo=lambda payloads: [{} for _ in payloads])
    lane = Queue("batch", connection=client, serializer=JSONSerializer)
    assert [len(r) for r in (lane.started_job_registry, lane.finished_job_registry, lane.failed_job_registry)] == [
        0
    ] * 3
    assert not client.keys("rq:job:*")


def test_ttl_drops_a_job_that_waited_too_long(url: str, client: redis.Redis) -> None:
    lane = Queue("interactive", connection=client, serializer=JSONSerializer)
    job = lane.enqueue("echo", {"n": 1}, ttl=1)
    assert 0 < client.pttl(job.key) <= 1000
    client.delete(job.key)
    with pytest.raises(NoSuchJobError):
        RqJob.fetch(job.id, connection=client, serializer=JSONSerializer)
    ran: list[Any] = []
    burst(url, echo=lambda payloads: [ran.append(p) or {} for p in payloads])  # type: ignore[func-returns-value]
    assert ran == []
    assert len(lane) == 0


def test_the_connection_never_repeats_a_blocking_pop(url: str) -> None:
    """A retried BLPOP can lose what it popped, and redis-py 8 retries by default."""
    connection: Any = wire.connect(url, blocking=2).connection_pool.make_connection()
    assert connection.retry.get_retries() == 0
    assert connection.socket_timeout > 2


def test_a_busy_stamp_is_set_while_a_job_runs_only(url: str) -> None:
    worker = GpuWorker(url, {}, Stamp())
    seen: list[float] = []
    worker._handlers = {"echo": lambda payloads: [seen.append(worker._stamp.value) or {} for _ in payloads]}  # type: ignore[func-returns-value]
    RedisQueue(url).enqueue(Job("echo", {}), Priority.BATCH)
    worker.work(burst=True, logging_level="WARNING")
    assert seen[0] > 0
    assert worker._stamp.value == 0.0


def test_the_stamp_moves_with_every_pause_and_every_click_in_it(url: str) -> None:
    stamps: list[float] = []
    queue = RedisQueue(url)

    def parts(payloads: Sequence[Payload]) -> list[Result | Exception]:
        stamps.append(worker._stamp.value)
        let_clicks_pass()
        stamps.append(worker._stamp.value)
        queue.enqueue(Job("click", {}), Priority.INTERACTIVE)
        let_clicks_pass()
        stamps.append(worker._stamp.value)
        return [{} for _ in payloads]

    def click(payloads: Sequence[Payload]) -> list[Result | Exception]:
        stamps.append(worker._stamp.value)
        return [{} for _ in payloads]

    worker = GpuWorker(url, {"parts": parts, "click": click}, Stamp())
    serve_pauses(worker._answer_clicks)
    try:
        queue.enqueue(Job("parts", {}), Priority.BATCH)
        worker.work(burst=True, logging_level="WARNING")
    finally:
        serve_pauses(lambda: None)
    assert len(set(stamps)) == 4
    assert stamps == sorted(stamps)
    assert worker._stamp.value == 0.0


@pytest.mark.parametrize("error", [JobError("what"), Away("what"), Superseded("what")])
def test_errors_arrive_as_what_they_are(error: JobError) -> None:
    with pytest.raises(JobError, match="what") as arrived:
        wire.unpack_outcome(wire.pack_outcome(error))
    assert type(arrived.value) is type(error)
