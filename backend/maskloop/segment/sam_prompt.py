"""A prompt in the frame of a SAM: its input square, and the coarse grid of its logits."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maskloop.segment.prompt import Box, Mask, Point, Scribble

CERTAIN = 10.0
"""Logit of a pixel that a given mask holds; SAM was trained to be fed its own logits, which rarely exceed it."""
STROKE_POINTS = 4
"""Points that stand for a scribble, spread along it: SAM knows no strokes."""


@dataclass(frozen=True)
class Frame:
    """How an image of ``size`` (height, width) lies in the square input of ``side`` pixels.

    ``fitted`` is the (width, height) it has there, at the top left; ``low`` the side of the logits.
    """

    size: tuple[int, int]
    fitted: tuple[int, int]
    side: int
    low: int

    def points(self, points: list[Point]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Coordinates N x 2, 0 at the centre of the first input pixel, and labels N, 1 or 0."""
        scale = np.array([self.fitted[0] / self.size[1], self.fitted[1] / self.size[0]], np.float32)
        places = np.array([(p.x, p.y) for p in points], np.float32).reshape(-1, 2) * scale - 0.5
        return places.astype(np.float32), np.array([int(p.positive) for p in points], np.int64)

    def box(self, box: Box) -> NDArray[np.float32]:
        """x0, y0, x1, y1 in input pixels."""
        corners, _ = self.points([Point(box.x0, box.y0), Point(box.x1, box.y1)])
        return corners.reshape(4)

    def shrunk(self, mask: Mask) -> NDArray[np.float32]:
        """How much of each cell of the logits' grid a mask covers, low x low in [0, 1]; 0 in the padding."""
        width = max(1, round(self.fitted[0] * self.low / self.side))
        height = max(1, round(self.fitted[1] * self.low / self.side))
        grid = np.zeros((self.low, self.low), np.float32)
        grid[:height, :width] = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        return grid

    def logits(self, mask: Mask) -> NDArray[np.float32]:
        """A mask as logits to start from, low x low."""
        return np.asarray((2 * self.shrunk(mask) - 1) * CERTAIN, np.float32)

    def full(self, logits: NDArray[np.float32]) -> Mask:
        """The mask, height x width, that low x low logits stand for."""
        square = cv2.resize(logits, (self.side, self.side), interpolation=cv2.INTER_LINEAR)
        inside = square[: self.fitted[1], : self.fitted[0]]
        return np.asarray(cv2.resize(inside, self.size[::-1], interpolation=cv2.INTER_LINEAR) > 0)


def along(scribble: Scribble) -> list[Point]:
    """A few points of a stroke, the first where it is thickest, each next one farthest from those before."""
    depth = cv2.distanceTransform(np.pad(scribble.mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    if not depth.any():
        return []
    rows, columns = np.nonzero(depth >= 0.5 * depth.max())
    places = np.stack([columns, rows], axis=1).astype(np.float64)
    chosen = [int(np.argmax(depth[rows, columns]))]
    distance = np.full(len(places), np.inf)
    while len(chosen) < min(STROKE_POINTS, len(places)):
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return [Point(places[i, 0] + 0.5, places[i, 1] + 0.5, scribble.positive) for i in chosen]


def around(mask: Mask) -> Box | None:
    """The box of a mask, None for an empty one."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if not len(rows):
        return None
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
