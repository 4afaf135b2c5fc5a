"""Regions as Label Studio sends them, and where they come from: draft, annotation or prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from maskloop.labelstudio.shapes import Shape, number, shape_of

PROMPT_TYPES = ("keypoint", "rectangle", "brush")


@dataclass(frozen=True)
class Region:
    """One result of Label Studio.

    ``size`` is (width, height) of the upright image, (0, 0) where the result has none.
    ``is_positive`` is None for what no smart tool made. ``raw`` is the result as it came, to be
    echoed where the editor would forget parts of it.
    """

    id: str
    type: str
    from_name: str = ""
    to_name: str = ""
    labels: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    shape: Shape | None = None
    is_positive: bool | None = None
    origin: str = ""
    score: float | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def label(self) -> str | None:
        return self.labels[0] if self.labels else None


@dataclass(frozen=True)
class Source:
    """A draft, an annotation or a prediction. ``updated`` is epoch seconds, 0 if unknown.

    ``user`` is the e-mail address of a draft's owner or the id of an annotation's, as text.
    ``related`` are the ids of regions that take part in a relation.
    """

    kind: str
    id: int | None = None
    user: str | None = None
    updated: float = 0.0
    regions: tuple[Region, ...] = ()
    related: frozenset[str] = frozenset()
    version: str | None = None


def parse_context(results: Sequence[object], max_pixels: int) -> tuple[Region, ...]:
    """The regions of a context, in order. Raises ValueError: a prompt that cannot be read is not guessed."""
    regions = []
    for result in results:
        if not isinstance(result, Mapping):
            raise ValueError("a region is not a JSON object")
        region = parse_region(result, max_pixels)
        if not region.id:
            raise ValueError("a region has no id")
        if region.shape is None and region.type.startswith(PROMPT_TYPES):
            what = "original_width and original_height" if region.size == (0, 0) else "coordinates"
            raise ValueError(f"region {region.id} of type {region.type} has no usable {what}")
        regions.append(region)
    return tuple(regions)


def parse_source(kind: str, raw: Mapping[str, Any], max_pixels: int) -> Source:
    """A draft, annotation or prediction; results that cannot be read are left out."""
    results = [result for result in _list(raw.get("result")) if isinstance(result, Mapping)]
    number, by = raw.get("id"), raw.get("completed_by")
    user = raw.get("user") if kind == "draft" else by.get("id") if isinstance(by, Mapping) else by
    return Source(
        kind=kind,
        id=number if isinstance(number, int) else None,
        user=None if user is None else str(user),
        updated=epoch(raw.get("updated_at")),
        regions=tuple(parse_region(result, max_pixels) for result in results if result.get("type") != "relation"),
        related=frozenset(_related(results)),
        version=_text(raw.get("model_version")) or None,
    )


def parse_region(raw: Mapping[str, Any], max_pixels: int) -> Region:
    """One result. What cannot be read is left empty, down to no shape at all."""
    value = raw.get("value")
    value = value if isinstance(value, Mapping) else {}
    type, size = _text(raw.get("type")), _size(raw, max_pixels)
    positive, score = raw.get("is_positive"), number(raw.get("score"))
    return Region(
        id=_text(raw.get("id")),
        type=type,
        from_name=_text(raw.get("from_name")),
        to_name=_text(raw.get("to_name")),
        labels=tuple(label for label in _list(value.get(type)) if isinstance(label, str)),
        size=size,
        shape=shape_of(type, value, size, positive is not False) if size != (0, 0) else None,
        is_positive=positive if isinstance(positive, bool) else None,
        origin=_text(raw.get("origin")),
        score=score,
        raw=raw,
    )


def epoch(value: object) -> float:
    """Seconds since 1970 of "2026-11-23T08:31:55.093780Z"; 0 for anything else."""
    if not isinstance(value, str):
        return 0.0
    try:
        return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def _related(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for result in results:
        if result.get("type") == "relation":
            yield from (id for id in (result.get("from_id"), result.get("to_id")) if isinstance(id, str))


def _size(raw: Mapping[str, Any], max_pixels: int) -> tuple[int, int]:
    width, height = number(raw.get("original_width")), number(raw.get("original_height"))
    if width is None or height is None or width < 1 or height < 1 or width * height > max_pixels:
        return (0, 0)
    return (int(width), int(height))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
