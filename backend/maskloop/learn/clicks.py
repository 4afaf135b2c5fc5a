"""The simulated annotator: where a careful person would click next.

The field's standard (RITM, Sofiiuk et al. 2021): the next click goes to the pixel
farthest from the border of the error region, in the false negatives (positive click) or
in the false positives (negative click), whichever reaches deeper.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from maskloop.segment.prompt import Mask, Point


def next_click(
    predicted: Mask,
    truth: Mask,
    ignore: Mask | None = None,
    taken: tuple[Point, ...] = (),
    rng: np.random.Generator | None = None,
) -> Point | None:
    """The next corrective click, at a pixel's centre; None when nothing is left to correct.

    ``predicted``, ``truth`` and ``ignore`` are H x W; pixels of ``ignore`` and pixels already
    ``taken`` are never clicked. With ``rng`` the click is a random place in the inner half
    of the error region instead of its centre: a less careful person, for training.
    """
    open_pixels = np.ones(truth.shape, bool) if ignore is None else ~ignore
    for point in taken:
        open_pixels[int(point.y), int(point.x)] = False
    missing = depth(truth & ~predicted & open_pixels)
    extra = depth(predicted & ~truth & open_pixels)
    deepest = max(missing.max(), extra.max())
    if deepest <= 0:
        return None
    positive = bool(missing.max() >= extra.max())
    depths = missing if positive else extra
    if rng is None:
        y, x = np.unravel_index(int(np.argmax(depths)), depths.shape)
    else:
        rows, columns = np.nonzero(depths > deepest / 2)
        pick = int(rng.integers(len(rows)))
        y, x = rows[pick], columns[pick]
    return Point(float(x) + 0.5, float(y) + 0.5, positive)


def depth(region: Mask) -> NDArray[np.float32]:
    """Distance of every pixel of ``region`` to its outside, in pixels; the image's edge counts as outside."""
    padded = np.pad(region.astype(np.uint8), 1)
    distances = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float64)[1:-1, 1:-1]
    # With one thread their last bit depends on where in memory the array lies, and with it which of two equally
    # deep pixels is clicked. Squared they are whole numbers.
    exact: NDArray[np.float32] = np.sqrt(np.rint(distances * distances)).astype(np.float32)
    return exact
