"""Names and forms of what MaskLoop keeps in Redis, beside RQ's own keys."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from maskloop.queue.job import Away, JobError, Priority, Result, Superseded

WORKERS = "maskloop:workers"
PENDING = "maskloop:pending"
SWEEP_LOCK = "maskloop:sweep"
PROBE = "maskloop:probe"

UNREACHABLE = (RedisConnectionError, RedisTimeoutError, ResponseError)
"""Redis does not answer, or refuses: it is full, read-only, still loading, or without its cluster. It passes."""

KINDS: dict[str, type[JobError]] = {"superseded": Superseded, "away": Away}
"""Errors that are more than their message."""

REPLY_SECONDS = 60
"""How long an answer waits for whoever asked."""


WHY = "why"
"""The field of an RQ job that says what it has been set aside for."""


def reply_key(job_id: str) -> str:
    return f"maskloop:reply:{job_id}"


def once_key(name: str, key: str) -> str:
    """Exists while a job of that name and key waits or runs."""
    return f"maskloop:once:{name}:{key}"


def group_key(group: str) -> str:
    return f"maskloop:group:{group}"


def worker_key(worker: str) -> str:
    """What a live worker says of itself; it expires when the worker is silent."""
    return f"maskloop:worker:{worker}"


OWN = (Priority.INTERACTIVE, Priority.PREPARE)
"""Priorities of which each worker has a lane of its own, for the images it holds."""


def own_lane(worker: str, priority: Priority = Priority.INTERACTIVE) -> str:
    """The queue of jobs that prefer this worker, because it holds their image or shall hold it."""
    return f"{priority.value}:{worker}"


def lanes_of(worker: str) -> list[str]:
    """The queues a worker takes jobs from, in that order.

    Everybody's before its own: jobs that moved on from a busy worker are the oldest, and after
    this worker's own they would wait for ever.
    """
    return [
        name
        for priority in Priority
        for name in ([priority.value, own_lane(worker, priority)] if priority in OWN else [priority.value])
    ]


def as_text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


CONNECTIONS = 1000
"""Of one client at most: every waiting click holds one, and redis-py's own limit is 100."""


def connect(url: str, blocking: float = 0.0) -> Redis:
    """A client that fails at once instead of retrying: a retried blocking pop can lose what it popped.

    ``blocking`` is the longest a command may block, in seconds; the socket waits a little longer.
    """
    return Redis.from_url(
        url,
        socket_timeout=blocking + 2.0,
        socket_connect_timeout=2.0,
        socket_keepalive=True,
        health_check_interval=0,
        max_connections=CONNECTIONS,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
    )


def without_password(url: str) -> str:
    """The address, fit for a message."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def pack_outcome(outcome: Result | Exception) -> bytes:
    """An answer or an error as JSON. What is not plain JSON becomes an error, never a silent success."""
    if isinstance(outcome, Exception):
        kind = next((kind for kind, error in KINDS.items() if isinstance(outcome, error)), "error")
        message = str(outcome) if isinstance(outcome, JobError) else f"{type(outcome).__name__}: {outcome}"
        return json.dumps({kind: message}).encode()
    try:
        return json.dumps({"ok": outcome}, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        return json.dumps({"error": f"the worker's answer is not plain JSON: {error}"}).encode()


def unpack_outcome(data: bytes | str) -> Result:
    """The answer. Raises Superseded, Away or JobError when it is one."""
    outcome: dict[str, Any] = json.loads(data)
    if "ok" in outcome:
        result: Result = outcome["ok"]
        return result
    ((kind, message),) = outcome.items()
    raise KINDS.get(kind, JobError)(message)


def job_name(job: Any) -> str:
    """An RQ job's name; empty for data that is not ours (say, somebody's pickle)."""
    try:
        name = job.func_name
        return name if isinstance(name, str) and len(job.args) == 1 and isinstance(job.args[0], dict) else ""
    except Exception:  # whatever a stranger's bytes make the serializer raise
        return ""
