"""Seeded watershed on the edge map (Meyer, 1994): positive and negative seeds flood until they meet."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

from maskloop.segment.catalog import Source
from maskloop.segment.classical.engine import Engine, engine
from maskloop.segment.classical.scene import Scene, edges, sure


def load(source: Source) -> Engine:
    return engine(source, solve, side=384)


def solve(scene: Scene) -> NDArray[np.float32]:
    inside, outside = sure(scene)
    markers = inside.astype(np.int32) + 2 * outside.astype(np.int32)
    labels = np.asarray(watershed(edges(scene.image), markers, compactness=0.002))  # type: ignore[no-untyped-call]
    flooded = (labels == 1).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(flooded, (0, 0), 1.0), np.float32)
