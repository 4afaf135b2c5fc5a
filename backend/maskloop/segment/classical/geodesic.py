"""Geodesic distance (Bai and Sapiro, 2007): each pixel goes with the seed whose path to it crosses the least edge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.graph import MCP_Geometric

from maskloop.segment.catalog import Source
from maskloop.segment.classical.engine import Engine, engine
from maskloop.segment.classical.scene import Scene, edges, sure
from maskloop.segment.prompt import Mask

STEP = 0.02
"""What a pixel without any edge costs: a long way over flat ground counts as one edge."""


def load(source: Source) -> Engine:
    return engine(source, solve, side=192)


def solve(scene: Scene) -> NDArray[np.float32]:
    costs = STEP + edges(scene.image).astype(np.float64)
    inside, outside = (_distance(costs, seeds) for seeds in sure(scene))
    return np.asarray(outside / (inside + outside + 1e-9), np.float32)


def _distance(costs: NDArray[np.float64], seeds: Mask) -> NDArray[np.float64]:
    if not seeds.any():
        return np.full(costs.shape, 1e6)
    distance, _ = MCP_Geometric(costs).find_costs(np.argwhere(seeds))
    return np.asarray(distance)
