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

DECODING = 0.03
"""Mean IoU that a prompt must add to be preferred to the region as it is."""

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
    looked_at = []
    for sample in samples:
        truths = [target.mask for target in sample.targets if target.label == label]
        if truths:
            likeness, depth = maps(head, look(sample.pixels, embed(sample)))
            looked_at.append(_Looked(sample, truths, likeness[index], depth))
    if not looked_at:
        return start
    manner = _best_threshold(start, looked_at)
    return replace(manner, way=_best_way(manner, looked_at[:6], label, segmenter, embed))


def _best_threshold(start: Manner, looked_at: Sequence[_Looked]) -> Manner:
    best = (-1.0, start)
    for threshold in (0.3, 0.45, 0.6, 0.75, 0.88):
        manner = replace(start, threshold=threshold)
        hits = [_hits(islands(one.likeness, one.depth, manner), one.truths) for one in looked_at]
        value = float(np.mean([value for one in hits for value, _ in one]))
        if value > best[0]:
            best = (value, manner)
    return best[1]


def _best_way(manner: Manner, looked_at: Sequence[_Looked], label: str, segmenter: Segmenter, embed: Embed) -> str:
    values: dict[str, list[float]] = {way: [] for way in WAYS}
    for one in looked_at:
        sample = one.sample
        for value, found in _hits(islands(one.likeness, one.depth, manner), one.truths)[:2]:
            if found is None or value < 0.2:
                continue
            region, truth = found
            for way in WAYS:
                made = proposed(region, one.likeness, label, way, sample.pixels, embed(sample), segmenter)
                values[way].append(0.0 if made is None else iou(made.mask, truth))
    # A decoded mask costs a look at the image each: it has to be clearly better than the region itself.
    worth = {way: float(np.mean(found)) - DECODING * (way != "region") for way, found in values.items() if found}
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
