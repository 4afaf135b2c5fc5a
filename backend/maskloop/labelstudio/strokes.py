"""Brush regions as masks: their RLE, their strokes, or both."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from maskloop.labelstudio.rle import RleError, decode_mask
from maskloop.labelstudio.shapes import Brush, Stroke
from maskloop.segment.prompt import Mask, Scribble

MOST_PAINTED = 500_000_000
"""Pixels of the masks of all strokes of one prompt together: each stroke is a mask of the image's size."""

SHIFT = 4
"""Fractional bits of OpenCV's fixed point coordinates."""


def rasterise(strokes: Iterable[Stroke], size: tuple[int, int]) -> Mask:
    """The pixels under strokes; ``size`` is (width, height), the mask height x width."""
    canvas = np.zeros((size[1], size[0]), np.uint8)
    for stroke in strokes:
        if not stroke.points:
            continue
        # Pixel centres lie at (0.5, 0.5) here and at (0, 0) in OpenCV.
        points = np.round((np.array(stroke.points) - 0.5) * (1 << SHIFT)).astype(np.int32)
        thickness = min(max(1, round(stroke.width)), 32767)
        if len(points) == 1:
            cv2.circle(canvas, points[0].tolist(), (thickness << SHIFT) // 2, 1, cv2.FILLED, shift=SHIFT)
        else:
            cv2.polylines(canvas, [points[:, None]], False, 1, thickness, shift=SHIFT)
    return canvas.astype(bool)


def scribbles(brush: Brush, size: tuple[int, int], positive: bool) -> tuple[Scribble, ...]:
    """What a brush region says about the object: painted with the sign ``positive``, erased with the other."""
    painted = rasterise((stroke for stroke in brush.strokes if not stroke.eraser), size)
    if brush.rle is not None:
        try:
            painted |= decode_mask(brush.rle, (size[1], size[0]))
        except RleError:
            if not painted.any():
                return ()
    erased = rasterise((stroke for stroke in brush.strokes if stroke.eraser), size)
    signs = ((painted & ~erased, positive), (erased, not positive))
    return tuple(Scribble(mask, sign) for mask, sign in signs if mask.any())
