"""How the objects of a label are best looked for, found out on the submitted objects themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import cv2
import numpy as np

from maskloop.learn.head import Head, maps
from maskloop.learn.islands import WAYS, Manner, islands, proposed
from maskloop.learn.pixels import Floats, grid_size, look
from maskloop.learn.samples import Sample
from maskloop.segment.prompt import Mask, iou
from maskloop.segment.segmenter import Embedding, Segmenter

DECODING = 0.02
"""What a prompt must add to the worth of masks to be preferred to the region as it is."""
GOOD = 0.85
"""A mask with this IoU needs no correction, so it is worth twice one that is only near."""
PER_IMAGE = 3

Embed: TypeAlias = Callable[[Sample], Embedding]


@dataclass(frozen=True, eq=False)
class _Looked:
    """An image, the true masks of a label on it, and what the head says of it on the grid."""

    sample: Sample
    truths: Sequence[Mask]
    likeness: Floats
    depth: Floats


def first_manner(samples: Sequence[Sample], label: str) -> Manner:
    """The manner that the sizes of the submitted objects suggest."""
    areas = []
    for sample in samples:
        height, width = sample.pixels.shape[:2]
        rows, columns = grid_size(height, width)
        scale = rows * columns / (height * width)
        areas += [float(t.mask.sum()) * scale for t in sample.targets if t.label == label]
    small, middle, large = np.quantile(areas, [0.05, 0.5, 0.95])
    return Manner(0.5, float(np.sqrt(middle / np.pi)), max(6.0, 0.3 * float(small)), 3.0 * float(large), "region")


def best_manner(
    head: Head, index: int, start: Manner, samples: Sequence[Sample], label: str, segmenter: Segmenter, embed: Embed
) -> Manner:
    """The threshold and the way that fit the submitted objects of some trained images best.

    ``index`` is that of the label among the head's; ``start`` what else the manner says.
    """
    looked_at = _looked(head, index, samples, label, segmenter, embed)
    if not looked_at:
        return start
    _, manner = _best_threshold(start, looked_at)
    return replace(manner, way=_best_way(manner, looked_at, label, segmenter, embed))


def found(
    head: Head, index: int, start: Manner, samples: Sequence[Sample], label: str, segmenter: Segmenter, embed: Embed
) -> float:
    """Mean IoU of a label's objects on some images with the regions that fit them best; 0 where there are none."""
    looked_at = _looked(head, index, samples, label, segmenter, embed)
    return _best_threshold(start, looked_at)[0] if looked_at else 0.0


def _looked(
    head: Head, index: int, samples: Sequence[Sample], label: str, segmenter: Segmenter, embed: Embed
) -> list[_Looked]:
    """What the head says of those images that have objects of the label."""
    result = []
    for sample in samples:
        truths = [target.mask for target in sample.targets if target.label == label]
        if truths:
            likeness, depth = maps(head, look(sample.pixels, embed(sample), segmenter, len(head.mean)))
            result.append(_Looked(sample, truths, likeness[index], depth))
    return result


def _best_threshold(start: Manner, looked_at: Sequence[_Looked]) -> tuple[float, Manner]:
    best = (-1.0, start)
    for threshold in (0.3, 0.45, 0.6, 0.75, 0.88):
        manner = replace(start, threshold=threshold)
        hits = [_hits(islands(one.likeness, one.depth, manner), one.truths) for one in looked_at]
        value = float(np.mean([value for one in hits for value, _ in one]))
        if value > best[0]:
            best = (value, manner)
    return best


def _best_way(manner: Manner, looked_at: Sequence[_Looked], label: str, segmenter: Segmenter, embed: Embed) -> str:
    values: dict[str, list[float]] = {way: [] for way in WAYS}
    for one in looked_at:
        sample = one.sample
        for value, hit in _hits(islands(one.likeness, one.depth, manner), one.truths)[:PER_IMAGE]:
            if hit is None or value < 0.2:
                continue
            region, truth = hit
            for way in WAYS:
                made = proposed(region, one.likeness, label, way, sample.pixels, embed(sample), segmenter)
                values[way].append(0.0 if made is None else iou(made.mask, truth))
    # A decoded mask costs a look at the image each: it has to be better than the region itself.
    worth = {
        way: float(np.mean(ious) + np.mean([v >= GOOD for v in ious])) / 2 - DECODING * (way != "region")
        for way, ious in values.items()
        if ious
    }
    return max(worth, key=lambda way: worth[way], default="region")


def _hits(regions: Sequence[Mask], truths: Sequence[Mask]) -> list[tuple[float, tuple[Mask, Mask] | None]]:
    """For every true mask the IoU of the region that fits it best, with both."""
    result: list[tuple[float, tuple[Mask, Mask] | None]] = []
    for truth in truths:
        best: tuple[float, tuple[Mask, Mask] | None] = (0.0, None)
        if regions:
            shape = regions[0].shape
            small = cv2.resize(truth.astype(np.uint8) * 255, shape[::-1], interpolation=cv2.INTER_AREA) >= 128
            for region in regions:
                value = iou(region, small) if bool((region & small).any()) else 0.0
                if value > best[0]:
                    best = (value, (region, truth))
        result.append(best)
    return result
