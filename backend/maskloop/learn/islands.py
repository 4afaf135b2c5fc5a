"""Objects on a map of likeness: regions of one object each, and the masks they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from maskloop.learn.pixels import Floats
from maskloop.segment.postprocess import clean
from maskloop.segment.prompt import Box, Image, Mask, Point, Prompt, iou
from maskloop.segment.segmenter import Embedding, Segmenter

WAYS = ("region", "point", "box and point", "prior")
"""How a region becomes a mask: taken as it is, or by the decoder from one of these prompts."""


Window: TypeAlias = tuple[slice, slice]
"""Rows and columns."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mask nobody asked for: H x W at image size, its label, and how sure (0 to 1)."""

    mask: Mask
    label: str
    score: float


@dataclass(frozen=True)
class Manner:
    """How objects of one label are looked for: the least likeness of a pixel, object sizes (grid pixels), the way."""

    threshold: float
    radius: float
    smallest: float
    largest: float
    way: str


def islands(likeness: Floats, depth: Floats, manner: Manner) -> list[Mask]:
    """Regions of one object each on the grid, the most alike first."""
    alike = cv2.GaussianBlur(likeness, (0, 0), 0.7) > manner.threshold
    distance = np.asarray(cv2.distanceTransform(np.pad(alike, 1).astype(np.uint8), cv2.DIST_L2, 5), np.float32)[
        1:-1, 1:-1
    ]
    height = cv2.GaussianBlur(distance / max(manner.radius, 1.0) + depth, (0, 0), max(0.7, 0.25 * manner.radius))
    height[~alike] = 0
    peaks = peak_local_max(height, min_distance=max(1, round(0.6 * manner.radius)), labels=alike.astype(np.int32))  # type: ignore[no-untyped-call]
    markers = np.zeros(alike.shape, np.int32)
    for number, (row, column) in enumerate(peaks):
        markers[row, column] = number + 1
    parts = watershed(-height, markers, mask=alike)  # type: ignore[no-untyped-call]
    found: list[tuple[float, Mask]] = []
    for number in range(1, len(peaks) + 1):
        region: Mask = parts == number
        area = int(region.sum())
        if manner.smallest <= area <= manner.largest:
            found.append((float(likeness[region].mean()), region))
    return [region for _, region in sorted(found, key=lambda entry: -entry[0])]


def proposed(
    region: Mask, likeness: Floats, label: str, way: str, pixels: Image, embedding: Embedding, segmenter: Segmenter
) -> Proposal | None:
    """A region on the grid as a mask of the image, made in one of the ways; None when nothing is left of it."""
    height, width = pixels.shape[:2]
    soft = cv2.resize(region.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    rough: Mask = soft >= 0.5
    if not rough.any():
        return None
    sure = float(likeness[region].mean())
    if way == "region":
        return Proposal(rough, label, sure)
    prompt = _prompt(rough, way, label)
    prediction = segmenter.decode(embedding, prompt)
    mask = clean(prediction.mask, prompt)
    if not mask.any():
        return None
    agreement = iou(mask, rough)
    score = float(np.cbrt(max(prediction.score, 0.0) * agreement * sure))
    return Proposal(mask, label, min(1.0, score))


def without_doubles(proposals: Sequence[Proposal]) -> list[Proposal]:
    """Of two masks that overlap by half of the smaller one, the better; sorted input, sorted output."""
    kept: list[Proposal] = []
    taken: list[tuple[Window, int]] = []
    for proposal in proposals:
        window = _window(proposal.mask)
        if window is None:
            continue
        part = proposal.mask[window]
        area = np.count_nonzero(part)
        doubles = (
            np.count_nonzero(part & other.mask[window]) > 0.5 * min(area, size)
            for other, (place, size) in zip(kept, taken, strict=True)
            if _meet(window, place)
        )
        if not any(doubles):
            kept.append(proposal)
            taken.append((window, area))
    return kept


def _window(mask: Mask) -> Window | None:
    """The rows and columns that a mask spans; None for an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _meet(one: Window, other: Window) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True))


def _prompt(rough: Mask, way: str, label: str) -> Prompt:
    rows, columns = np.flatnonzero(rough.any(axis=1)), np.flatnonzero(rough.any(axis=0))
    box = Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    inner = cv2.distanceTransform(np.pad(rough, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    point = (Point(float(column) + 0.5, float(row) + 0.5),)
    if way == "point":
        return Prompt(points=point, label=label)
    if way == "box and point":
        return Prompt(points=point, box=box, label=label)
    return Prompt(points=point, prior=rough, label=label)
