"""Morphological active contour without edges (Marquez-Neila, Baumela and Alvarez, 2014) on the seeds' colours."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import morphological_chan_vese

from maskloop.segment.catalog import Source
from maskloop.segment.classical import geodesic
from maskloop.segment.classical.engine import Engine, engine
from maskloop.segment.classical.scene import Scene, sure

ROUNDS = 12
SMOOTHING = 1


def load(source: Source) -> Engine:
    return engine(source, solve, side=192)


def solve(scene: Scene) -> NDArray[np.float32]:
    inside, outside = sure(scene)
    nearness = geodesic.solve(scene)
    if min(nearness.shape) < 3:
        return nearness
    start = nearness > 0.5 if scene.prior is None else scene.prior | inside
    contour = morphological_chan_vese(  # type: ignore[no-untyped-call]
        nearness.astype(np.float64), ROUNDS, init_level_set=start.astype(np.int8), smoothing=SMOOTHING
    ).astype(np.float32)
    contour[inside], contour[outside] = 1, 0
    return np.asarray(cv2.GaussianBlur(contour, (0, 0), 1.0), np.float32)
