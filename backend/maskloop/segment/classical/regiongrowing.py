"""Seeded region growing (Adams and Bischof, 1994) on SLIC superpixels: the most alike neighbour joins first."""

from __future__ import annotations

import heapq

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import slic

from maskloop.segment.catalog import Source
from maskloop.segment.classical.engine import Engine, engine
from maskloop.segment.classical.scene import Scene, sure

SUPERPIXELS = 500


def load(source: Source) -> Engine:
    return engine(source, solve, side=256)


def solve(scene: Scene) -> NDArray[np.float32]:
    inside, outside = sure(scene)
    lab = cv2.GaussianBlur(cv2.cvtColor(scene.image, cv2.COLOR_RGB2LAB), (0, 0), 1.0).astype(np.float32) / 255
    parts = slic(lab, SUPERPIXELS, compactness=0.05, max_num_iter=5, convert2lab=False, start_label=0)
    # A superpixel that holds seeds of both signs is split between them.
    parts = np.unique(3 * parts + inside + 2 * outside, return_inverse=True)[1].reshape(parts.shape)
    count = int(parts.max()) + 1
    sizes = np.bincount(parts.ravel(), minlength=count).astype(np.float64)
    channels = [np.bincount(parts.ravel(), lab[..., c].ravel(), count) for c in range(3)]
    sums = np.stack(channels, axis=1).astype(np.float64)
    side = np.zeros(count, int)
    side[np.unique(parts[outside])] = 2
    side[np.unique(parts[inside])] = 1
    owner = _grow(sums, sizes, side, _neighbours(parts, count))
    return np.asarray(cv2.GaussianBlur((owner[parts] == 1).astype(np.float32), (0, 0), 1.0), np.float32)


def _neighbours(parts: NDArray[np.intp], count: int) -> list[list[int]]:
    pairs = np.concatenate(
        [
            np.stack([parts[:, :-1].ravel(), parts[:, 1:].ravel()], axis=1),
            np.stack([parts[:-1].ravel(), parts[1:].ravel()], axis=1),
        ]
    )
    pairs = np.unique(np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1), axis=0)
    neighbours: list[list[int]] = [[] for _ in range(count)]
    for a, b in pairs.tolist():
        neighbours[a].append(b)
        neighbours[b].append(a)
    return neighbours


def _grow(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], side: NDArray[np.intp], neighbours: list[list[int]]
) -> NDArray[np.intp]:
    """Which side, 1 or 2, every superpixel joins; the cheapest step, in colour and on the way, is taken first."""
    colours = sums / sizes[:, None]
    owner = side.copy()
    waiting = [(0.0, part, part) for part in np.nonzero(side)[0].tolist()]
    settled: set[int] = set()
    while waiting:
        cost, part, origin = heapq.heappop(waiting)
        if part in settled:
            continue
        settled.add(part)
        owner[part] = owner[origin]
        for other in neighbours[part]:
            if other not in settled and not side[other]:
                step = float(np.linalg.norm(colours[other] - colours[part]))
                drift = float(np.linalg.norm(colours[other] - colours[origin]))
                heapq.heappush(waiting, (max(cost, step + 0.5 * drift), other, origin))
    return owner
