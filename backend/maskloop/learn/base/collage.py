"""Cut-out things pasted on backgrounds, and their parts: scenes with a known truth from pictures of single things."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from maskloop.segment.prompt import Mask


def pasted(rng: np.random.Generator, canvas: NDArray[np.float32], thing: NDArray[np.float32]) -> Mask:
    """Paste an RGBA thing somewhere on the canvas, turned, scaled and tinted; its visible mask."""
    size = canvas.shape[0]
    height, width = thing.shape[:2]
    scale = size * float(np.exp(rng.uniform(np.log(0.1), np.log(0.95)))) / max(height, width)
    if scale < 0.7:
        thing = cv2.GaussianBlur(thing, (0, 0), 0.4 / scale).astype(np.float32)
    turn = float(rng.normal(0, 25)) if rng.random() < 0.6 else 0.0
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale)
    matrix[:, 2] = matrix[:, 2] + rng.uniform(0.1, 0.9, 2) * size - np.array([width / 2, height / 2])
    layer = cv2.warpAffine(thing, matrix, (size, size), flags=cv2.INTER_LINEAR).astype(np.float32)
    alpha = (layer[..., 3:] / 255).astype(np.float32)
    if rng.random() < 0.4:
        alpha = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.4, 1.0)).astype(np.float32)[..., None]
    tinted = layer[..., :3] * rng.uniform(0.6, 1.15) * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    if rng.random() < 0.15:
        tinted = 0.5 * tinted + 0.5 * canvas
    canvas += alpha * (tinted - canvas)
    visible: Mask = alpha[..., 0] > 0.5
    return visible


def coloured_part(rng: np.random.Generator, canvas: NDArray[np.float32], mask: Mask) -> Mask | None:
    """A connected part of a thing that has one colour, 8 to 60 % of it; None if there is none."""
    inside = canvas[mask]
    if len(inside) < 300:
        return None
    some = inside[rng.integers(len(inside), size=min(len(inside), 600))].astype(np.float32)
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, 8, 1.0)
    cv2.setRNGSeed(int(rng.integers(2**31 - 1)))
    kinds = int(rng.integers(2, 5))
    _, _, found = cv2.kmeans(some, kinds, np.empty(0, np.int32), criteria, 1, cv2.KMEANS_PP_CENTERS)
    centres = np.asarray(found, np.float32)
    nearest = ((canvas[:, :, None] - centres[None, None]) ** 2).sum(3).argmin(2)
    parts = []
    for index in range(len(centres)):
        same = cv2.morphologyEx(((nearest == index) & mask).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        _, labels, stats, _ = cv2.connectedComponentsWithStats(same)
        parts += [labels == n for n in range(1, len(stats)) if 0.08 < stats[n, cv2.CC_STAT_AREA] / len(inside) < 0.6]
    return parts[int(rng.integers(len(parts)))] if parts else None
