"""What a region looks like: percents of the image, as Label Studio sends them, to pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from maskloop.segment.prompt import Box, Point

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


def shape_of(type: str, value: Mapping[str, Any], size: tuple[int, int], positive: bool) -> Shape | None:
    """The shape that a result's value describes, in pixels of an image of that (width, height); None if none."""
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
    x, y = number(value.get("x")), number(value.get("y"))
    if x is None or y is None:
        return None
    x, y = _inside(x * size[0] / 100, size[0] - INSIDE), _inside(y * size[1] / 100, size[1] - INSIDE)
    return Point(x, y, positive)


def _box(value: Mapping[str, Any], size: tuple[int, int]) -> Box | None:
    """The upright box around a rectangle that may be rotated around its top left corner, within the image."""
    edges = [number(value.get(key)) for key in ("x", "y", "width", "height")]
    x, y, w, h = (edge if edge is not None else math.nan for edge in edges)
    if math.isnan(x + y + w + h):
        return None
    x, w, y, h = x * size[0] / 100, w * size[0] / 100, y * size[1] / 100, h * size[1] / 100
    turn = math.radians(number(value.get("rotation")) or 0.0)
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
    width = number(touch.get("relativeStrokeWidth")) or 0.0
    return Stroke(
        points=_pairs(list(zip(flat[0::2], flat[1::2], strict=False)), size),
        width=max(1.0, _inside(width * size[0] / 100, 2.0 * max(size))),
        eraser=touch.get("type") == "eraser",
    )


def _pairs(value: object, size: tuple[int, int]) -> tuple[tuple[float, float], ...]:
    """Pairs of percents as pixels; what is no pair of numbers is left out."""
    points = []
    for pair in _list(value):
        if isinstance(pair, list | tuple) and len(pair) == 2:
            x, y = number(pair[0]), number(pair[1])
            if x is not None and y is not None:
                points.append((_inside(x * size[0] / 100, size[0]), _inside(y * size[1] / 100, size[1])))
    return tuple(points)


def _inside(value: float, end: float) -> float:
    return min(max(value, 0.0), end)


def number(value: object) -> float | None:
    """A finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
