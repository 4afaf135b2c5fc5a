"""Random walker (Grady, 2006): the chance that a walk that avoids edges meets a positive seed first."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import random_walker

from maskloop.segment.catalog import Source
from maskloop.segment.classical.engine import Engine, engine
from maskloop.segment.classical.scene import Scene, sure


def load(source: Source) -> Engine:
    return engine(source, solve, side=200)


def solve(scene: Scene) -> NDArray[np.float32]:
    inside, outside = sure(scene, grow=True)
    if not outside.any():
        return np.ones(inside.shape, np.float32)
    labels = inside.astype(np.int32) + 2 * outside.astype(np.int32)
    if not (labels == 0).any():
        return inside.astype(np.float32)
    lab = cv2.GaussianBlur(cv2.cvtColor(scene.image, cv2.COLOR_RGB2LAB), (0, 0), 0.7).astype(np.float64) / 255
    chances = random_walker(
        lab, labels, beta=400, mode="cg_j", tol=1e-2, channel_axis=2, return_full_prob=True, prob_tol=np.inf
    )
    return np.asarray(chances[0], np.float32).clip(0, 1)
