"""The scaled-out queue: RQ on Redis, seen from the web process. It never imports torch."""

from __future__ import annotations

import contextlib
import json
import math
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError
from rq import Queue
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from maskloop.queue import wire
from maskloop.queue.affinity import Workers, live_workers
from maskloop.queue.job import Busy, Expired, Job, JobQueue, Priority, Result, Superseded
from maskloop.queue.outage import Outage
from maskloop.queue.wire import UNREACHABLE

if TYPE_CHECKING:
    from redis.client import Pipeline

PATIENCE = 0.2
"""Seconds a click waits for the worker that holds its image before any worker may take it."""
ONCE_SECONDS = 120
"""A key is forgotten after this, so that a prepare job lost with its worker does not block the image."""
BLOCK_SECONDS = 2.0
RQ_SECONDS = 3600
"""RQ takes a job for abandoned that runs longer. The supervisor and the sweeper know sooner and better."""

MOVE = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then redis.call('RPUSH', KEYS[2], ARGV[1]) return 1 end
return 0
"""


@dataclass(frozen=True)
class _Ticket:
    job: Job
    rq: RqJob
    queue: Queue
    priority: Priority


class RedisQueue(JobQueue):
    """A :class:`~maskloop.queue.job.JobQueue` whose jobs are run by `maskloop worker` processes.

    ``limit`` bounds each lane: clicks beyond it are refused, other jobs are dropped. Those that
    ask at the same instant all count the lane before any of them is in it, and may exceed it
    by their number. ``outage`` is shared with whatever else of this process asks the same Redis.
    """

    def __init__(self, url: str, limit: int = 256, outage: Outage | None = None) -> None:
        self._url = wire.without_password(url)
        self._redis = wire.connect(url)
        self._waiting = wire.connect(url, blocking=BLOCK_SECONDS)
        self._limit = limit
        self._outage = outage or Outage()
        self._workers = Workers(self._redis, self._outage)
        self._move = self._redis.register_script(MOVE)
        self._queues: dict[str, Queue] = {}
        self._closing = False

    def call(self, job: Job, deadline: float, priority: Priority = Priority.INTERACTIVE) -> Result:
        until = time.monotonic() + deadline
        with self._reaching():
            return self._wait(self._submit(job, priority, deadline), until)

    def enqueue(self, job: Job, priority: Priority) -> bool:
        with self._reaching():
            once = wire.once_key(job.name, job.key) if job.key is not None else None
            if once and not self._redis.set(once, 1, nx=True, ex=ONCE_SECONDS):
                return False
            try:
                self._submit(job, priority, None)
            except Busy:
                if once:
                    self._redis.delete(once)
                return False
            return True

    def depths(self) -> dict[str, int]:
        with self._reaching():
            lanes = self._lanes()
            with self._redis.pipeline(transaction=False) as pipe:
                for names in lanes.values():
                    for name in names:
                        pipe.llen(self._queue(name).key)
                lengths = iter(pipe.execute())
            return {lane.value: sum(next(lengths) for _ in names) for lane, names in lanes.items()}

    def ages(self) -> dict[str, float]:
        """Seconds the oldest job of each lane has waited."""
        ages: dict[str, float] = {}
        with self._reaching():
            for lane, names in self._lanes().items():
                heads = [job for name in names for job in self._queue(name).get_jobs(0, 1)]
                since = [job.enqueued_at.timestamp() for job in heads if job.enqueued_at]
                ages[lane.value] = max(0.0, time.time() - min(since)) if since else 0.0
        return ages

    def ready(self) -> str | None:
        if self._closing:
            return "the server is shutting down"
        try:
            with self._reaching():
                self._redis.set(wire.PROBE, 1)  # one that is full or read-only still answers questions
                workers = self._workers.ready()
        except Busy as error:
            return str(error)
        return None if workers else "no worker is ready; start one with `maskloop worker` or wait until it has loaded"

    def workers(self) -> dict[str, dict[str, Any]]:
        """The ready workers by name, with the versions each has loaded."""
        with self._reaching():
            return dict(self._workers.ready())

    def close(self) -> None:
        self._closing = True

    def _lanes(self) -> dict[Priority, list[str]]:
        """The queues of each lane; clicks and what is prepared for them may also wait for one worker."""
        lanes = {lane: [lane.value] for lane in Priority}
        for lane in wire.OWN:
            lanes[lane] += [wire.own_lane(worker, lane) for worker in self._workers.ready()]
        return lanes

    def _queue(self, name: str) -> Queue:
        if name not in self._queues:
            self._queues[name] = Queue(name, connection=self._redis, serializer=JSONSerializer)
        return self._queues[name]

    def _submit(self, job: Job, priority: Priority, deadline: float | None) -> _Ticket:
        """Admit a job, drop the ones it makes pointless, and put it into its queue."""
        if self._closing:
            raise Busy("the server is shutting down", retry_after=5)
        lanes = self._lanes()[priority]
        with self._redis.pipeline(transaction=False) as pipe:
            for name in lanes:
                pipe.llen(self._queue(name).key)
            if job.group is not None:
                pipe.hgetall(wire.group_key(job.group))
            answers = pipe.execute()
        waiting = sum(answers[: len(lanes)])
        older: dict[bytes, bytes] = answers[-1] if job.group is not None else {}
        if waiting >= self._limit:
            raise Busy(f"{waiting} {priority.value} jobs are waiting already; try again in a second", retry_after=1)
        worker = self._workers.preferred(job.affinity) if priority in wire.OWN else None
        queue = self._queue(wire.own_lane(worker, priority) if worker else priority.value)
        rq = queue.create_job(
            job.name,
            args=(job.payload,),
            job_id=uuid.uuid4().hex,
            description=job.name,
            ttl=None if deadline is None else math.ceil(deadline),
            timeout=RQ_SECONDS if priority is Priority.BATCH else None,
            result_ttl=0,
            meta={"once": wire.once_key(job.name, job.key)} if job.key is not None else {},
        )
        with self._redis.pipeline() as pipe:
            queue.enqueue_job(rq, pipeline=pipe)  # first: RQ refuses a pipeline with commands in it
            self._drop_superseded_by(job, older, lanes, pipe)
            if priority is Priority.BATCH:
                pipe.hset(wire.PENDING, rq.id, json.dumps({"lane": queue.name}))
            if job.group is not None:
                pipe.hset(wire.group_key(job.group), rq.id, json.dumps(sorted(job.parts)))
                pipe.expire(wire.group_key(job.group), 2 * wire.REPLY_SECONDS)
            pipe.execute()
        return _Ticket(job, rq, queue, priority)

    def _drop_superseded_by(self, newer: Job, older: dict[bytes, bytes], lanes: list[str], pipe: Pipeline) -> None:
        for field, parts in older.items():
            if frozenset(json.loads(parts)) < newer.parts:
                job_id = field.decode()
                for name in lanes:
                    pipe.lrem(self._queue(name).key, 1, job_id)
                pipe.delete(RqJob.key_for(job_id))
                pipe.lpush(wire.reply_key(job_id), wire.pack_outcome(Superseded("a newer prompt took its place")))
                pipe.expire(wire.reply_key(job_id), wire.REPLY_SECONDS)

    def _wait(self, ticket: _Ticket, until: float) -> Result:
        key = wire.reply_key(ticket.rq.id)
        prefers = ticket.queue.name != ticket.priority.value
        while (left := until - time.monotonic()) > 0 or self._is_running(ticket):
            longest = PATIENCE if prefers else BLOCK_SECONDS
            reply = self._waiting.blpop([key], min(left, longest) if left > 0 else longest)
            if reply is not None:
                if ticket.job.group is not None:
                    with contextlib.suppress(*UNREACHABLE):  # it expires by itself, and the answer is here
                        self._redis.hdel(wire.group_key(ticket.job.group), ticket.rq.id)
                return wire.unpack_outcome(reply[1])
            if prefers:
                self._move(keys=[ticket.queue.key, self._queue(ticket.priority.value).key], args=[ticket.rq.id])
                prefers = False
        with self._redis.pipeline() as pipe:
            pipe.lpop(key)
            pipe.hget(ticket.rq.key, wire.WHY)
            for name in (ticket.queue.name, ticket.priority.value):
                pipe.lrem(self._queue(name).key, 1, ticket.rq.id)
            pipe.delete(ticket.rq.key)
            pipe.hdel(wire.PENDING, ticket.rq.id)
            if ticket.job.group is not None:
                pipe.hdel(wire.group_key(ticket.job.group), ticket.rq.id)
            reply, aside = pipe.execute()[:2]
        if reply is not None:
            return wire.unpack_outcome(reply)
        why = (
            wire.as_text(aside or b"")
            or self.ready()
            or "the workers are busy, or the model is too slow for this machine"
        )
        raise Expired(f"no answer in time: {why}")

    def _is_running(self, ticket: _Ticket) -> bool:
        """Whether a live worker has this batch job in hand. One that hangs is killed by its supervisor."""
        if ticket.priority is not Priority.BATCH:
            return False
        status, worker = self._redis.hmget(ticket.rq.key, "status", "worker_name")
        return status == b"started" and worker is not None and wire.as_text(worker) in live_workers(self._redis)

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """Around whatever asks Redis: Busy when it does not answer or refuses, at once when that is known."""
        try:
            with self._outage.watched():
                yield
        except UNREACHABLE as error:
            for client in (self._redis, self._waiting):
                client.connection_pool.disconnect(inuse_connections=False)  # the idle ones are as dead as this one
            what = "refuses" if isinstance(error, ResponseError) else "does not answer"
            raise Busy(f"the queue at {self._url} (REDIS_URL) {what}: {error}", retry_after=2) from error
