"""Graph cut with Gaussian mixtures of the image's own colours (GrabCut: Rother, Kolmogorov and Blake, 2004)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from maskloop.segment.catalog import Source
from maskloop.segment.classical import watershed
from maskloop.segment.classical.engine import Engine, engine
from maskloop.segment.classical.scene import Scene

ROUNDS = 3


def load(source: Source) -> Engine:
    return engine(source, solve, side=320)


def solve(scene: Scene) -> NDArray[np.float32]:
    if scene.prior is not None:
        guess = scene.prior
    elif scene.positive.any():
        # A click says too little about colours: what is near it without an edge between is a first guess.
        guess = watershed.solve(scene) > 0.5
    else:
        guess = ~scene.outside
    labels = np.ascontiguousarray(np.where(guess, cv2.GC_PR_FGD, cv2.GC_PR_BGD), np.uint8)
    if scene.boxed:
        labels[scene.background] = cv2.GC_BGD
    labels[scene.negative] = cv2.GC_BGD
    labels[scene.positive] = cv2.GC_FGD
    inside = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    if inside.all() or not inside.any():
        return np.asarray(inside, np.float32)
    cv2.setRNGSeed(0)  # the mixtures start from k-means, which draws from a global generator
    image = cv2.cvtColor(scene.image, cv2.COLOR_RGB2BGR)
    nowhere = (0, 0, 0, 0)  # the rectangle is not looked at when there are labels to start from
    cv2.grabCut(image, labels, nowhere, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(found, (0, 0), 1.0), np.float32)
