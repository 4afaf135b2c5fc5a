"""Correcting an existing mask without ever destroying it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from maskloop.segment.prompt import Mask, Point, Prompt


def constrain(mask: Mask, base: Mask, prompt: Prompt) -> Mask:
    """``base`` with only those changes of ``mask`` that a click asked for.

    ``mask`` and ``base`` are H x W. A connected piece that ``mask`` adds to ``base`` is added
    when a positive click lies in it, a piece it removes is removed when a negative click lies
    in it; everything else stays as it was. So a misread gesture changes little and never
    destroys a mask. Raises ValueError when the sizes differ.
    """
    if mask.shape != base.shape:
        raise ValueError(f"the mask to correct is {base.shape[::-1]} pixels, the image {mask.shape[::-1]}")
    added = _touched(mask & ~base, [p for p in prompt.points if p.positive])
    removed = _touched(base & ~mask, [p for p in prompt.points if not p.positive])
    result: Mask = (base | added) & ~removed
    return result


def _touched(pieces: Mask, points: Sequence[Point]) -> Mask:
    """The connected pieces with at least one of the points in them."""
    height, width = pieces.shape
    _, labels = cv2.connectedComponents(pieces.astype(np.uint8), connectivity=8)
    hit = {int(labels[min(max(int(p.y), 0), height - 1), min(max(int(p.x), 0), width - 1)]) for p in points} - {0}
    touched: Mask = np.isin(labels, sorted(hit))
    return touched
