"""Finds what a dead worker left behind (batch jobs it had popped, clicks that waited for it), relieves a busy one."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from typing import Any

from redis import Redis
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer

from maskloop.queue import wire
from maskloop.queue.affinity import live_workers
from maskloop.queue.job import JobError, Priority

log = logging.getLogger(__name__)

SWEEP_SECONDS = 5
UNCLAIMED_SECONDS = 6.0
"""A batch job in no queue and with no worker for this long was popped by a worker that died before it began."""
ATTEMPTS = 3
"""A job that was lost with its worker this often is given up: it may be what kills them."""


def sweep(redis: Redis) -> int:
    """Put lost batch jobs back and hand over dead workers' clicks; returns how many jobs it moved.

    Any worker may call this at any time; one of them does the work, every SWEEP_SECONDS.
    RQ alone loses a job popped from one of several queues by a worker that dies before it
    starts it, and needs minutes to notice one that died in the middle of a job.
    """
    if not redis.set(wire.SWEEP_LOCK, 1, nx=True, ex=SWEEP_SECONDS - 1):
        return 0
    live = live_workers(redis)
    pending = {wire.as_text(job_id): json.loads(note) for job_id, note in redis.hgetall(wire.PENDING).items()}
    return _bury(redis, live) + sum(int(_recover(redis, job_id, note, live)) for job_id, note in pending.items())


def relieve(redis: Redis, idle: str) -> None:
    """An idle worker makes one image that waits to be prepared by another worker everybody's."""
    shared = Queue(Priority.PREPARE.value, connection=redis)
    for name in live_workers(redis):
        own = Queue(wire.own_lane(name, Priority.PREPARE), connection=redis)
        if name != idle and redis.lmove(own.key, shared.key, "LEFT", "RIGHT") is not None:
            return


def _bury(redis: Redis, live: dict[str, Any]) -> int:
    """Hand the clicks and images that waited for a dead worker to everybody, and forget the worker."""
    total = 0
    for name in map(wire.as_text, redis.smembers(wire.WORKERS)):
        if name in live:
            continue
        moved = 0
        for priority in wire.OWN:
            own = Queue(wire.own_lane(name, priority), connection=redis, serializer=JSONSerializer)
            shared = Queue(priority.value, connection=redis, serializer=JSONSerializer)
            while redis.lmove(own.key, shared.key, "RIGHT", "LEFT") is not None:
                moved += 1
            own.delete(delete_jobs=False)
        redis.srem(wire.WORKERS, name)
        log.warning("worker %s is gone; %d jobs that waited for it were handed over", name, moved)
        total += moved
    return total


def _recover(redis: Redis, job_id: str, note: dict[str, Any], live: dict[str, Any]) -> bool:
    queue = Queue(note["lane"], connection=redis, serializer=JSONSerializer)
    if redis.lpos(queue.key, job_id) is not None:
        return False
    try:
        job = RqJob.fetch(job_id, connection=redis, serializer=JSONSerializer)
    except NoSuchJobError:  # its caller gave up, or it ended between our two looks
        redis.hdel(wire.PENDING, job_id)
        return False
    if job.worker_name in live:
        return False
    if job.worker_name is None:
        seen = note.setdefault("unclaimed", time.time())
        if time.time() - seen < UNCLAIMED_SECONDS:
            _note(redis, job_id, note)
            return False
    note.pop("unclaimed", None)
    note["lost"] = note.get("lost", 0) + 1
    with redis.pipeline() as pipe, contextlib.suppress(ValueError):  # an execution that has expired by itself
        for execution in job.get_executions():
            execution.delete(job, pipe)
        pipe.execute()
    if note["lost"] >= ATTEMPTS:
        log.error("job %s (%s) was lost with its worker %d times: given up", job_id, job.description, note["lost"])
        with redis.pipeline() as pipe:
            reply = JobError(f"the worker stopped {note['lost']} times while it ran this")
            pipe.lpush(wire.reply_key(job_id), wire.pack_outcome(reply))
            pipe.expire(wire.reply_key(job_id), wire.REPLY_SECONDS)
            pipe.hdel(wire.PENDING, job_id)
            if once := job.meta.get("once"):
                pipe.delete(once)
            pipe.execute()
        job.delete()
        return False
    log.warning("job %s (%s) was lost with its worker; it is queued again", job_id, job.description)
    _note(redis, job_id, note)
    job.worker_name = None
    queue.enqueue_job(job)
    return True


def _note(redis: Redis, job_id: str, note: dict[str, Any]) -> None:
    """Remember a note, unless the job ended meanwhile."""
    if redis.hexists(wire.PENDING, job_id):
        redis.hset(wire.PENDING, job_id, json.dumps(note))
