"""What a training of the base weights is fed: batches that follow from their number alone."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from maskloop.learn.base.data import Sample, Samples

BATCH = 8
"""The batch the rates are for; with larger ones they grow by the square root, as suits Adam (Malladi et al. 2022)."""


@dataclass(frozen=True)
class Recipe:
    """How to train; recorded in the checkpoint."""

    hours: float = 1.6
    batch: int = BATCH
    size: int = 257
    large: int = 321
    large_share: float = 0.15
    rate: float = 1.0e-3
    encoder_rate: float = 2e-4
    encoder_start: float = 0.08
    encoder_every: int = 2
    ema: float = 0.9988
    seed: int = 1


class Batches(IterableDataset[list[Sample]]):
    """Lists of samples of one size; which size is decided by the batch's number."""

    def __init__(self, data: Path, recipe: Recipe, start: int) -> None:
        self.data, self.recipe, self.start = data, recipe, start

    def __iter__(self) -> Iterator[list[Sample]]:
        cv2.setNumThreads(1)
        info = get_worker_info()
        if info:
            threading.Thread(target=_leave_with_parent, daemon=True).start()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        recipe = self.recipe
        streams = {size: Samples(self.data, recipe.seed, size) for size in (recipe.size, recipe.large)}
        number = self.start + first
        while True:
            pick = np.random.default_rng((recipe.seed, number, 7)).random()
            stream = streams[recipe.large if pick < recipe.large_share else recipe.size]
            yield [stream.sample(number * recipe.batch + i) for i in range(recipe.batch)]
            number += step


def _leave_with_parent() -> None:
    """End this loader when its training was killed: torch's own loaders wait for somebody to take their batches."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
