"""Masks as polygons: few corners, and at least 98 % of the mask.

Label Studio's polygons are single closed rings. An object in several parts becomes several
polygons; a hole is reached by a cut of no width from the outline (a keyhole), which both fill
rules, even-odd and non-zero, leave empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from maskloop.segment.prompt import Mask

Ring = tuple[tuple[float, float], ...]
Corners = NDArray[np.float64]
"""N x 2, (x, y) in pixels; whole numbers are pixel corners."""

LEAST_IOU = 0.985
"""Of each part. What is dropped as too small takes the rest down to 0.98 at most."""

SPECKS = 0.004
"""Share of the area that parts and holes may have together and still be dropped."""

TOLERANCES = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.0)
"""Pixels by which a simplified outline may differ, tried in turn, scaled to the part's size."""

RASTER = 1024
"""Cells a side on which IoU is measured (fewer for small parts)."""

CUT_CORNERS = 512
"""Corners of a ring or hole that are tried for a cut."""

SHIFT = 4
"""Fractional bits of OpenCV's fixed point coordinates."""


def rings(mask: Mask) -> tuple[Ring, ...]:
    """Closed rings of (x, y) pixels (the last point is not repeated), the largest part first.

    ``mask`` is H x W; an empty one has no rings. Filled as areas, the rings have an IoU of at least
    0.98 with it.
    """
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(ys) == 0:
        return ()
    left, top = int(xs[0]), int(ys[0])
    crop = mask[top : ys[-1] + 1, left : xs[-1] + 1]
    spare = SPECKS * int(crop.sum())
    parts = sorted(_outlines(crop), key=lambda part: _area(part[0]), reverse=True)
    areas = [_area(outer) - sum(map(_area, holes)) for outer, holes in parts]
    for smallest in sorted(range(len(parts)), key=lambda i: areas[i])[: len(parts) - 1]:
        if areas[smallest] > spare:
            break
        spare -= areas[smallest]
        areas[smallest] = 0.0
    kept = []
    for (outer, holes), area in zip(parts, areas, strict=True):
        if area > 0.0:
            spare, large = _without_specks(holes, spare)
            kept.append(_ring(outer, large) + np.array((left, top)))
    return tuple(tuple((float(x), float(y)) for x, y in ring) for ring in kept)


def _outlines(mask: Mask) -> list[tuple[Corners, list[Corners]]]:
    """Outline and holes of each part, along the pixel borders.

    OpenCV's contours run through pixel centres. So they are taken on a grid of half pixels on which
    every pixel has grown by one half pixel, where those centres are the pixel borders.
    """
    height, width = mask.shape
    grid = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    grid[1::2, 1::2] = mask
    grown = cv2.dilate(grid, np.ones((3, 3), np.uint8))
    contours, hierarchy = cv2.findContours(grown, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    parents = hierarchy.reshape(-1, 4)[:, 3].tolist()
    borders: list[Corners] = [contour.reshape(-1, 2).astype(np.float64) / 2 for contour in contours]
    return [
        (borders[part], [hole for hole, parent in zip(borders, parents, strict=True) if parent == part])
        for part, parent in enumerate(parents)
        if parent < 0
    ]


def _without_specks(holes: Sequence[Corners], spare: float) -> tuple[float, list[Corners]]:
    """The holes that are worth a cut, and what is left of the spare area."""
    large = []
    for hole in sorted(holes, key=_area):
        if _area(hole) <= spare:
            spare -= _area(hole)
        else:
            large.append(hole)
    return spare, large


def _ring(outer: Corners, holes: Sequence[Corners]) -> Corners:
    """One ring for a part: as few corners as the IoU allows."""
    exact = _keyhole(_simplified(outer, 0.0), [_simplified(hole, 0.0) for hole in holes])
    low, size = outer.min(axis=0), np.ptp(outer, axis=0)
    scale = float(np.clip(RASTER / size.max(), 1.0, 32.0))
    wanted = _raster(exact, low, size, scale)
    for tolerance in TOLERANCES:
        epsilon = tolerance * max(1.0, float(size.max()) / 500)
        # A slope wants its staircase smoothed first, a square corner would lose its tip.
        simple = [
            min(_simplified(contour, epsilon), _simplified(_smooth(contour), epsilon), key=_corners)
            for contour in (outer, *holes)
        ]
        if all(len(contour) >= 3 for contour in simple):
            ring = _keyhole(simple[0], simple[1:])
            found = _raster(ring, low, size, scale)
            if (found & wanted).sum() >= LEAST_IOU * (found | wanted).sum():
                return ring
    return exact


def _corners(contour: Corners) -> float:
    return len(contour) if len(contour) >= 3 else np.inf


def _smooth(contour: Corners) -> Corners:
    """The middles of the pixel borders only: without its corners a staircase is a slope."""
    middles: Corners = contour[(2 * contour).sum(axis=1) % 2 == 1]
    return middles


def _simplified(contour: Corners, epsilon: float) -> Corners:
    points = cv2.approxPolyDP(contour.astype(np.float32).reshape(-1, 1, 2), epsilon, True)
    return points.reshape(-1, 2).astype(np.float64)


def _keyhole(outer: Corners, holes: Sequence[Corners]) -> Corners:
    """Outline and holes as one ring, each hole entered and left through a short cut."""
    ring = outer
    for hole in sorted(holes, key=lambda hole: _cut(outer, hole)[0]):
        _, at, entry = _cut(ring, hole)
        ring = np.concatenate([ring[: at + 1], hole[entry:], hole[: entry + 1], ring[at:]])
    return ring


def _cut(ring: Corners, hole: Corners) -> tuple[float, int, int]:
    """A short distance between a corner of a ring and one of a hole, and which corners these are."""
    every, step = -(-len(ring) // CUT_CORNERS), -(-len(hole) // CUT_CORNERS)
    apart = ((ring[::every, None] - hole[None, ::step]) ** 2).sum(axis=2)
    at, entry = np.unravel_index(int(apart.argmin()), apart.shape)
    return float(apart[at, entry]), int(at) * every, int(entry) * step


def _area(ring: Corners) -> float:
    following = np.roll(ring, -1, axis=0)
    return abs(float((ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]).sum())) / 2


def _raster(ring: Corners, low: NDArray[np.float64], size: NDArray[np.float64], scale: float) -> Mask:
    """A ring as an area on a raster."""
    width, height = np.ceil(size * scale).astype(int) + 2
    canvas = np.zeros((height, width), np.uint8)
    points = np.round(((ring - low) * scale) * (1 << SHIFT)).astype(np.int32)
    return cv2.fillPoly(canvas, [points.reshape(-1, 1, 2)], 1, shift=SHIFT).astype(bool)
