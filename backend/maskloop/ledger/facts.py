"""What the ledger remembers, as values. Times are seconds since the epoch, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True)
class Prediction:
    """One mask that was shown to an annotator, and what it took.

    ``prompt`` names the kind ("click", "box", "scribble", "prior", "none" for a pre-annotation),
    ``clicks`` counts the points and boxes given so far. ``rle`` is the brush RLE; it is left out
    when it is larger than :data:`maskloop.ledger.predictions.LARGEST_RLE`.
    """

    project: int
    task: int
    region: str
    prompt: str
    clicks: int
    version: str
    score: float
    label: str | None = None
    rle: bytes | None = None
    at: float = 0.0


@dataclass(frozen=True)
class Region:
    """One region of a submitted annotation.

    ``kind`` is Label Studio's type ("brushlabels", "polygonlabels", "keypointlabels" ...);
    ``rle`` the brush RLE of a brush; ``points`` the outline of a polygon in pixels, x before y.
    ``width`` and ``height`` are the size of the upright image in pixels.
    """

    id: str
    kind: str
    label: str | None
    width: int
    height: int
    rle: bytes | None = None
    points: tuple[tuple[float, float], ...] | None = None


@dataclass(frozen=True)
class Submission:
    """An annotation a person submitted, in its newest form.

    ``updated_at`` is Label Studio's ISO time in UTC. ``image`` is the task's image URL as the task has it.
    ``cancelled`` marks a skip. ``training`` is the last training that looked at this form of it.
    """

    project: int
    task: int
    annotation: int
    updated_at: str
    image: str
    regions: tuple[Region, ...] = ()
    cancelled: bool = False
    ground_truth: bool = False
    completed_by: int | None = None
    training: int | None = None


class Recorded(Enum):
    """What became of a submission that was handed to the ledger."""

    NEW = "new"
    CHANGED = "changed"
    KNOWN = "known"
    STALE = "stale"
    DELETED = "deleted"


BY_HAND = "by hand"
"""The trigger of a training that is done even if nothing is new."""


class TrainingState(Enum):
    """Where a training is. Waiting and running are open; the others are final."""

    WAITING = "waiting"
    RUNNING = "running"
    PROMOTED = "promoted"
    KEPT = "kept"
    NOTHING_NEW = "nothing new"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self not in (TrainingState.WAITING, TrainingState.RUNNING)


@dataclass(frozen=True)
class Training:
    """One run of the trainer on a project: asked for, running or done."""

    id: int
    project: int
    state: TrainingState
    trigger: str
    requested_at: float
    started_at: float | None
    finished_at: float | None
    heartbeat: float | None
    owner: str | None
    attempt: int
    progress: float
    note: str
    version: str | None
    cancel: bool


@dataclass(frozen=True)
class Promotion:
    """A version that became current; ``by`` is "gate", "person" or "rollback".

    ``told`` is False while Label Studio, which was away, has still to be told.
    """

    project: int
    version: str
    previous: str
    by: str
    at: float
    told: bool = True


class Signal(Enum):
    """What the ledger tells a trainer that reports its progress."""

    GO_ON = "go on"
    CANCEL = "cancel"
    LOST = "lost"


@dataclass(frozen=True)
class BatchItem:
    """One task of a batch, claimed by a worker; ``payload`` is the plain JSON it was queued with.

    ``answered``: a process that is silent since put it into an answer; Label Studio may be storing it.
    """

    id: int
    batch: str
    project: int
    task: int
    version: str
    prompt: str
    payload: str
    attempt: int
    answered: bool = False


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is; the counts add up to the number of its tasks."""

    batch: str
    project: int
    version: str
    created_at: float
    waiting: int
    running: int
    done: int
    failed: int

    @property
    def total(self) -> int:
        return self.waiting + self.running + self.done + self.failed

    @property
    def finished(self) -> bool:
        return not (self.waiting or self.running)
