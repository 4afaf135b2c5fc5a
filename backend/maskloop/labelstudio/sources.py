"""Regions as Label Studio sends them, and where they come from: draft, annotation or prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from maskloop.segment.prompt import Box, Point

PROMPT_TYPES = ("keypoint", "rectangle", "brush")

INSIDE = 1e-3
"""A click on the right or lower border belongs to the last pixel: this far from the border at least."""


@dataclass(frozen=True)
class Stroke:
    """One stroke of the manual brush or eraser: (x, y) in pixels, width in pixels."""

    points: tuple[tuple[float, float], ...]
    width: float
    eraser: bool = False


@dataclass(frozen=True)
class Brush:
    """A brush region: RLE as it was before the strokes, None if there is none. ``drawing`` is an unsaved PNG."""

    rle: bytes | None
    strokes: tuple[Stroke, ...] = ()
    drawing: bool = False


@dataclass(frozen=True)
class Polygon:
    """Corners (x, y) in pixels."""

    points: tuple[tuple[float, float], ...]


Shape: TypeAlias = Point | Box | Brush | Polygon


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
    positive, score = raw.get("is_positive"), _number(raw.get("score"))
    return Region(
        id=_text(raw.get("id")),
        type=type,
        from_name=_text(raw.get("from_name")),
        to_name=_text(raw.get("to_name")),
        labels=tuple(label for label in _list(value.get(type)) if isinstance(label, str)),
        size=size,
        shape=_shape(type, value, size, positive is not False) if size != (0, 0) else None,
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
    width, height = _number(raw.get("original_width")), _number(raw.get("original_height"))
    if width is None or height is None or width < 1 or height < 1 or width * height > max_pixels:
        return (0, 0)
    return (int(width), int(height))


def _shape(type: str, value: Mapping[str, Any], size: tuple[int, int], positive: bool) -> Shape | None:
    if type.startswith("keypoint"):
        return _point(value, size, positive)
    if type.startswith("rectangle"):
        return _box(value, size)
    if type.startswith("polygon"):
        points = _pairs(value.get("points"), size)
        return Polygon(points) if len(points) >= 3 else None
    if type.startswith("brush"):
        return _brush(value, size)
    return None


def _point(value: Mapping[str, Any], size: tuple[int, int], positive: bool) -> Point | None:
    x, y = _number(value.get("x")), _number(value.get("y"))
    if x is None or y is None:
        return None
    x, y = _inside(x * size[0] / 100, size[0] - INSIDE), _inside(y * size[1] / 100, size[1] - INSIDE)
    return Point(x, y, positive)


def _box(value: Mapping[str, Any], size: tuple[int, int]) -> Box | None:
    """The upright box around a rectangle that may be rotated around its top left corner, within the image."""
    numbers = [_number(value.get(key)) for key in ("x", "y", "width", "height")]
    x, y, w, h = (number if number is not None else math.nan for number in numbers)
    if math.isnan(x + y + w + h):
        return None
    x, w, y, h = x * size[0] / 100, w * size[0] / 100, y * size[1] / 100, h * size[1] / 100
    turn = math.radians(_number(value.get("rotation")) or 0.0)
    cos, sin = math.cos(turn), math.sin(turn)
    xs = [x + dx * cos - dy * sin for dx in (0, w) for dy in (0, h)]
    ys = [y + dx * sin + dy * cos for dx in (0, w) for dy in (0, h)]
    x0, x1 = (_inside(edge, size[0]) for edge in (min(xs), max(xs)))
    y0, y1 = (_inside(edge, size[1]) for edge in (min(ys), max(ys)))
    # At least one pixel: a box dragged along the border, or by accident, is still a box.
    x0, y0 = min(x0, size[0] - 1), min(y0, size[1] - 1)
    return Box(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))


def _brush(value: Mapping[str, Any], size: tuple[int, int]) -> Brush:
    rle = value.get("rle")
    try:
        data = bytes(rle) if isinstance(rle, list) and rle else None
    except (TypeError, ValueError):
        data = None
    strokes = [_stroke(touch, size) for touch in _list(value.get("touches")) if isinstance(touch, Mapping)]
    return Brush(data, tuple(strokes), bool(value.get("maskDataURL")))


def _stroke(touch: Mapping[str, Any], size: tuple[int, int]) -> Stroke:
    """``relativePoints`` is a flat list of percents, ``relativeStrokeWidth`` percents of the width."""
    flat = _list(touch.get("relativePoints"))
    width = _number(touch.get("relativeStrokeWidth")) or 0.0
    return Stroke(
        points=_pairs(list(zip(flat[0::2], flat[1::2], strict=False)), size),
        width=max(1.0, width * size[0] / 100),
        eraser=touch.get("type") == "eraser",
    )


def _pairs(value: object, size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    """Pairs of percents as pixels; what is no pair of numbers is left out."""
    points = []
    for pair in _list(value):
        if isinstance(pair, list | tuple) and len(pair) == 2:
            x, y = _number(pair[0]), _number(pair[1])
            if x is not None and y is not None:
                points.append((_inside(x * size[0] / 100, size[0]), _inside(y * size[1] / 100, size[1])))
    return tuple(points)


def _inside(value: float, end: float) -> float:
    return min(max(value, 0.0), end)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
