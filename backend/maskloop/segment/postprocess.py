"""Mask hygiene: only what the prompt asked for, no specks, no pinholes, and every click honoured."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from maskloop.segment.prompt import Mask, Point, Prompt

SPECK = 0.002
"""A piece or a hole smaller than this share of the mask is noise, unless somebody clicked it."""
FORCED = 0.006
"""Radius of the disc around a click that the mask contradicted, as a share of the image's longer side."""


def clean(mask: Mask, prompt: Prompt) -> Mask:
    """A tidy copy of ``mask`` (H x W) that agrees with every click of ``prompt``.

    Every positive click is inside and every negative one outside, the later click winning
    where two fall on one pixel. Connected pieces that touch no positive click, positive
    stroke or prior mask go; where there are none of those, pieces outside the box go.
    Where all that is touched is what a click itself added, nothing tells the pieces apart
    and they stay. Specks and pinholes go too. Cleaning twice changes nothing more.
    """
    result = honoured(mask, prompt.points)
    window = _window(result)
    if window is not None:
        rows, columns = window
        shape = (mask.shape[0], mask.shape[1])
        wanted = _moved(_indices(prompt.points, True, shape), rows, columns)
        unwanted = _moved(_indices(prompt.points, False, shape), rows, columns)
        part = _filled(result[window], unwanted)
        result[window] = _pieces(part, _anchors(shape, prompt)[window], _discs(shape, prompt.points)[window], wanted)
    return result


def honoured(mask: Mask, points: Iterable[Point]) -> Mask:
    """``mask`` with a small disc added or cut at each click that contradicts it, and every clicked pixel right."""
    points = tuple(points)
    result = mask.copy()
    for point in points:
        x, y = pixel(point, mask.shape)
        if bool(result[y, x]) != point.positive:
            _draw(result, point, points)
    for point in points:
        x, y = pixel(point, mask.shape)
        result[y, x] = point.positive
    return result


def _draw(mask: Mask, point: Point, points: tuple[Point, ...]) -> None:
    """Add or cut the disc around one of ``points``."""
    height, width = mask.shape
    x, y = pixel(point, mask.shape)
    # Half way to the nearest click of the other kind at most, so that no disc undoes another click.
    others = [pixel(p, mask.shape) for p in points if p.positive != point.positive]
    nearest = min((np.hypot(x - a, y - b) for a, b in others), default=np.inf)
    radius = int(min(FORCED * max(height, width), nearest / 2))
    x0, x1, y0, y1 = max(x - radius, 0), min(x + radius + 1, width), max(y - radius, 0), min(y + radius + 1, height)
    rows, columns = np.ogrid[y0:y1, x0:x1]
    disc = (rows - y) ** 2 + (columns - x) ** 2 <= radius * radius
    mask[y0:y1, x0:x1][disc] = point.positive


def _discs(shape: tuple[int, int], points: tuple[Point, ...]) -> Mask:
    """All that positive clicks may have added to a mask."""
    discs = np.zeros(shape, bool)
    for point in points:
        if point.positive:
            _draw(discs, point, points)
    return discs


def pixel(point: Point, shape: tuple[int, ...]) -> tuple[int, int]:
    """Column and row of the pixel under a click; a click beyond the edge counts at the edge."""
    return min(max(int(point.x), 0), shape[1] - 1), min(max(int(point.y), 0), shape[0] - 1)


def _indices(points: Iterable[Point], positive: bool, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    return [pixel(point, shape) for point in points if point.positive == positive]


def _moved(places: list[tuple[int, int]], rows: slice, columns: slice) -> list[tuple[int, int]]:
    """Those places that lie in the window, in its frame."""
    return [
        (x - columns.start, y - rows.start)
        for x, y in places
        if columns.start <= x < columns.stop and rows.start <= y < rows.stop
    ]


def _window(mask: Mask) -> tuple[slice, slice] | None:
    """The rows and columns the mask spans; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _anchors(shape: tuple[int, int], prompt: Prompt) -> Mask:
    """Where the object is known to be: clicks, strokes and the prior, else the box, else anywhere."""
    anchors = np.zeros(shape, bool)
    for x, y in _indices(prompt.points, True, shape):
        anchors[y, x] = True
    for scribble in prompt.scribbles:
        if scribble.positive:
            anchors |= scribble.mask
    if prompt.prior is not None:
        anchors |= prompt.prior
    if not anchors.any():
        if prompt.box is None:
            anchors[:] = True
        else:
            box = prompt.box
            y0, y1 = max(int(box.y0), 0), max(int(np.ceil(box.y1)), int(box.y0) + 1)
            x0, x1 = max(int(box.x0), 0), max(int(np.ceil(box.x1)), int(box.x0) + 1)
            anchors[y0:y1, x0:x1] = True
    return anchors


def _pieces(mask: Mask, anchors: Mask, discs: Mask, clicks: list[tuple[int, int]]) -> Mask:
    """The connected pieces that touch an anchor and are no specks; all but specks when none touches one.

    A piece that lies within ``discs`` was added by a click and says nothing about the others.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA]
    keep = np.zeros(count, bool)
    keep[np.unique(labels[anchors & mask])] = True
    keep &= areas > np.bincount(labels[discs], minlength=count)
    keep[0] = False
    if not keep.any():
        keep[1:] = True
    keep &= areas >= SPECK * areas[keep].max()
    for x, y in clicks:
        keep[labels[y, x]] = True
    keep[0] = False
    kept: Mask = keep[labels]
    return kept


def _filled(mask: Mask, clicks: list[tuple[int, int]]) -> Mask:
    """Without pinholes, unless one was clicked away."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    inner = (left > 0) & (top > 0) & (right < mask.shape[1]) & (bottom < mask.shape[0])
    inner[0] = False
    for x, y in clicks:
        inner[labels[y, x]] = False
    areas = stats[:, cv2.CC_STAT_AREA]
    fill, total = np.zeros(count, bool), int(areas[0])
    # What is filled makes the mask larger, and with it what counts as a pinhole.
    while (more := inner & ~fill & (areas < SPECK * max(total, 1))).any():
        fill |= more
        total += int(areas[more].sum())
    if not fill.any():
        return mask
    whole: Mask = mask | fill[labels]
    return whole
