"""What waits in a queue: a job by name, with a payload of plain JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeAlias

Payload: TypeAlias = dict[str, Any]
Result: TypeAlias = dict[str, Any]


class Priority(Enum):
    """Who goes first. A person who waits comes before everything."""

    INTERACTIVE = "interactive"
    PREPARE = "prepare"
    BATCH = "batch"


class JobError(Exception):
    """A job failed; the message is for the person who asked."""


class Busy(JobError):
    """The queue is full: try again in ``retry_after`` seconds."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Expired(JobError):
    """No answer within the deadline."""


class Away(JobError):
    """What the job needs did not answer; later it may."""


class Superseded(JobError):
    """A newer prompt of the same annotator made this one pointless."""


@dataclass(frozen=True)
class Job:
    """One thing to do.

    ``group`` and ``parts`` decide what supersedes what: a newer interactive job of the same
    group whose parts contain all parts of an older one makes the older one pointless.
    ``affinity`` names the image, so that jobs on one image can meet its embedding.
    ``key`` makes a prepare or batch job idempotent: while one with that key waits or runs,
    another is not queued.
    """

    name: str
    payload: Payload
    group: str | None = None
    parts: frozenset[str] = frozenset()
    affinity: str | None = None
    key: str | None = None

    def supersedes(self, older: Job) -> bool:
        return self.group is not None and self.group == older.group and older.parts < self.parts


Handler: TypeAlias = Callable[[Sequence[Payload]], Iterable["Result | Exception"]]
"""Runs payloads of one job name; one result or exception for each, in order, each as soon as it is there."""

Handlers: TypeAlias = Mapping[str, Handler]


class JobQueue(Protocol):
    """Where the web process hands in work."""

    def call(self, job: Job, deadline: float, priority: Priority = Priority.INTERACTIVE) -> Result:
        """Run a job and wait for it, at most ``deadline`` seconds.

        An interactive job runs at most once. A batch job runs at least once while its caller
        waits, even when the worker that took it dies; one that runs when the time is up is waited
        for. Raises Busy, Expired, Superseded, or JobError with what went wrong.
        """
        ...

    def enqueue(self, job: Job, priority: Priority) -> bool:
        """Leave a job to be done later; False if its key already waits or the queue is full."""
        ...

    def depths(self) -> dict[str, int]:
        """Waiting jobs by priority."""
        ...

    def ages(self) -> dict[str, float]:
        """Seconds the oldest waiting job has waited, by priority."""
        ...

    def ready(self) -> str | None:
        """None when a warm worker takes jobs, else why not."""
        ...

    def close(self) -> None:
        """Stop taking jobs, finish the running one."""
        ...
