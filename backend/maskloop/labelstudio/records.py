"""What Label Studio's API tells, as plain values, and the errors of asking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Json = dict[str, Any]


class LabelStudioError(Exception):
    """Label Studio could not be asked; the message says what to do."""


class Unreachable(LabelStudioError):
    """No answer at that address."""


class Refused(LabelStudioError):
    """The token is not accepted, or its owner may not do this."""


class Missing(LabelStudioError):
    """No such task, annotation or project (any more)."""


def is_gone(ask: Callable[[int], object], id: int) -> bool:
    """Whether there is nothing (any more) where ``ask`` looks for it."""
    try:
        ask(id)
    except Missing:
        return True
    return False


@dataclass(frozen=True)
class Project:
    id: int
    title: str
    label_config: str
    model_version: str
    """The version whose scores the Data Manager shows. Empty: all of them."""


@dataclass(frozen=True)
class Task:
    id: int
    project: int
    data: Json
    """As imported: ``{"image": "/data/upload/..."}``."""

    @classmethod
    def of(cls, found: Any, project: int) -> Task:
        """What the SDK calls a task."""
        return cls(id=int(found.id), project=project, data=dict(found.data or {}))


@dataclass(frozen=True)
class Annotation:
    id: int
    task: int
    project: int
    result: list[Any]
    """The regions, raw and as anybody may have stored them; :mod:`maskloop.labelstudio.sources` reads them."""
    completed_by: int | None
    was_cancelled: bool
    ground_truth: bool
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, found: Any, task: int, project: int) -> Annotation:
        """What the SDK calls an annotation; in a list of tasks it is a plain dictionary."""
        raw: Mapping[str, Any] = found if isinstance(found, Mapping) else found.model_dump()
        by, result = raw.get("completed_by"), raw.get("result")
        return cls(
            id=int(raw["id"]),
            task=task,
            project=project,
            result=result if isinstance(result, list) else [],
            completed_by=by.get("id") if isinstance(by, Mapping) else by,
            was_cancelled=bool(raw.get("was_cancelled")),
            ground_truth=bool(raw.get("ground_truth")),
            created_at=_time(raw["created_at"]),
            updated_at=_time(raw["updated_at"]),
        )


@dataclass(frozen=True)
class StoredPrediction:
    id: int
    task: int
    model_version: str
    score: float | None
    result: list[Json]

    @classmethod
    def of(cls, found: Any, task: int) -> StoredPrediction:
        """What the SDK calls a prediction."""
        return cls(
            id=int(found.id),
            task=task,
            model_version=found.model_version or "",
            score=None if found.score is None else float(found.score),
            result=list(found.result or []),
        )


@dataclass(frozen=True)
class Webhook:
    id: int
    project: int | None
    """None: the webhook of the whole organization."""
    url: str
    headers: Mapping[str, str]
    is_active: bool
    send_payload: bool
    actions: frozenset[str] | None
    """None: all actions."""


@dataclass(frozen=True)
class Backend:
    id: int
    project: int
    url: str
    title: str
    state: str
    """CO connected, DI disconnected, ER error, TR training, PR predicting."""
    error: str
    is_interactive: bool
    basic_auth_user: str
    model_version: str


def _time(value: str | datetime) -> datetime:
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value.replace("Z", "+00:00"))
