"""The bodies of /webhook: what happened in Label Studio, as plain facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from maskloop.labelstudio.requests import BadRequest, is_id, project_id
from maskloop.labelstudio.shapes import Brush, Polygon
from maskloop.labelstudio.sources import Region, epoch, parse_region

MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class LeftOut:
    """A region of a submitted annotation that is no mask of an object, and why."""

    region: str
    reason: str


@dataclass(frozen=True)
class Annotation:
    """An annotation a person submitted, updated or skipped.

    ``regions`` are all its results but relations; ``masks`` of them those that somebody accepted as
    the mask of a labelled object (brush with RLE, or polygon), ``left_out`` the others. ``data`` is
    the task's data, empty if the event did not carry it. ``updated_at`` is Label Studio's ISO time.
    """

    id: int
    task: int
    project: int
    updated_at: str
    regions: tuple[Region, ...] = ()
    masks: tuple[Region, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    was_cancelled: bool = False
    ground_truth: bool = False
    completed_by: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def updated(self) -> float:
        """``updated_at`` in epoch seconds."""
        return epoch(self.updated_at)


@dataclass(frozen=True)
class Submitted:
    """Annotations were created or updated, one or many."""

    project: int
    annotations: tuple[Annotation, ...]
    label_config: str | None = None


@dataclass(frozen=True)
class Deleted:
    """Annotations were deleted. Label Studio does not say of which tasks."""

    project: int | None
    annotations: tuple[int, ...]


@dataclass(frozen=True)
class TasksCreated:
    """Tasks were imported; annotations that came with them get no event of their own."""

    project: int
    tasks: tuple[int, ...]


@dataclass(frozen=True)
class TasksDeleted:
    """Tasks were deleted, and with them their annotations, for which there is no event."""

    project: int | None
    tasks: tuple[int, ...]


@dataclass(frozen=True)
class ProjectUpdated:
    project: int
    label_config: str | None


@dataclass(frozen=True)
class StartTraining:
    project: int


@dataclass(frozen=True)
class Ignored:
    """An action that means nothing here."""

    action: str


Event: TypeAlias = Submitted | Deleted | TasksCreated | TasksDeleted | ProjectUpdated | StartTraining | Ignored


def parse_event(body: object, max_pixels: int = MAX_PIXELS) -> Event:
    """What a webhook tells. Raises BadRequest if it is not what Label Studio sends."""
    if not isinstance(body, Mapping) or not isinstance(body.get("action"), str):
        raise BadRequest('the body is not {"action": ..., "project": ...}.')
    action: str = body["action"]
    if action in ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_UPDATED"):
        return _submitted(body, action, max_pixels)
    if action in ("ANNOTATION_DELETED", "ANNOTATIONS_DELETED"):
        return Deleted(_project(body), _ids(_many(body, "annotation"), action))
    if action == "TASKS_DELETED":
        return TasksDeleted(_project(body), _ids(_many(body, "task"), action))
    if action == "TASKS_CREATED":
        return TasksCreated(_needed(body, action), _ids(_many(body, "task"), action))
    if action == "PROJECT_UPDATED":
        return ProjectUpdated(_needed(body, action), _config(body))
    if action == "START_TRAINING":
        return StartTraining(_needed(body, action))
    return Ignored(action)


def split_masks(regions: Sequence[Region]) -> tuple[tuple[Region, ...], tuple[LeftOut, ...]]:
    """The regions that are masks of labelled objects, and why the others are not."""
    reasons = [(region, _reason(region)) for region in regions]
    kept = tuple(region for region, reason in reasons if reason is None)
    return kept, tuple(LeftOut(region.id, reason) for region, reason in reasons if reason is not None)


def _reason(region: Region) -> str | None:
    """Why a region is no accepted mask, None if it is one."""
    value = region.raw.get("value")
    if region.type.startswith(("keypoint", "rectangle")):
        if isinstance(value, Mapping) and value.get("rle"):
            return "a second result that the editor adds when a prompt label is still selected"
        if region.is_positive is not None:
            return "a prompt whose mask was not accepted"
        return "not a mask"
    if not region.type.startswith(("brush", "polygon")):
        return "not a mask"
    if region.size == (0, 0):
        return "no usable image size"
    if not isinstance(region.shape, Brush | Polygon) or (isinstance(region.shape, Brush) and region.shape.rle is None):
        return "no mask data"
    if region.label is None:
        return "no label"
    return None


def _submitted(body: Mapping[str, Any], action: str, max_pixels: int) -> Submitted:
    project = _needed(body, action)
    tasks = {id: task.get("data") for task in _many(body, "task") if is_id(id := task.get("id"))}
    found = []
    for raw in _many(body, "annotation"):
        id, task = raw.get("id"), raw.get("task")
        task = task.get("id") if isinstance(task, Mapping) else task
        if not is_id(id) or not is_id(task):
            raise BadRequest(f"{action}: an annotation has no id or no task.")
        data = tasks.get(task)
        found.append(_annotation(raw, id, task, project, data if isinstance(data, Mapping) else {}, max_pixels))
    return Submitted(project, tuple(found), _config(body))


def _annotation(
    raw: Mapping[str, Any], id: int, task: int, project: int, data: Mapping[str, Any], max_pixels: int
) -> Annotation:
    results = raw.get("result")
    regions = tuple(
        parse_region(result, max_pixels)
        for result in (results if isinstance(results, list) else ())
        if isinstance(result, Mapping) and result.get("type") != "relation"
    )
    masks, left_out = split_masks(regions)
    by, updated = raw.get("completed_by"), raw.get("updated_at")
    by = by.get("id") if isinstance(by, Mapping) else by
    return Annotation(
        id=id,
        task=task,
        project=project,
        updated_at=updated if isinstance(updated, str) else "",
        regions=regions,
        masks=masks,
        left_out=left_out,
        was_cancelled=raw.get("was_cancelled") is True,
        ground_truth=raw.get("ground_truth") is True,
        completed_by=by if is_id(by) else None,
        data=data,
    )


def _many(body: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """One or several: Label Studio puts lists under singular names, and the other way round."""
    for key in (name, f"{name}s"):
        value = body.get(key)
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                yield item


def _ids(items: Iterator[Mapping[str, Any]], action: str) -> tuple[int, ...]:
    ids = tuple(id for item in items if is_id(id := item.get("id")))
    if not ids:
        raise BadRequest(f"{action} names nothing.")
    return ids


def _project(body: Mapping[str, Any]) -> int | None:
    project = body.get("project")
    return project_id(project.get("id") if isinstance(project, Mapping) else project)


def _needed(body: Mapping[str, Any], action: str) -> int:
    project = _project(body)
    if project is None:
        raise BadRequest(f"{action} names no project.")
    return project


def _config(body: Mapping[str, Any]) -> str | None:
    project = body.get("project")
    config = project.get("label_config") if isinstance(project, Mapping) else None
    return config if isinstance(config, str) else None
