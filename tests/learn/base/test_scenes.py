from __future__ import annotations

import numpy as np
import pytest

from maskloop.learn.base import scenes


@pytest.mark.parametrize("draw", [scenes.shapes, scenes.defects, scenes.cells])
def test_a_scene_has_things_that_can_be_seen(draw) -> None:
    seen = 0
    for seed in range(8):
        image, masks = draw(np.random.default_rng(seed), 97)
        assert image.shape == (97, 97, 3)
        assert image.dtype == np.uint8
        assert all(mask.shape == (97, 97) and mask.dtype == bool for mask in masks)
        inside = [image[mask].mean(0) - image[~mask].mean(0) for mask in masks if 20 < mask.sum() < 9000]
        seen += any(np.abs(difference).max() > 4 for difference in inside)
    assert seen >= 6


@pytest.mark.parametrize("draw", [scenes.shapes, scenes.defects, scenes.cells])
def test_a_seed_decides_the_scene(draw) -> None:
    one, other = (draw(np.random.default_rng(3), 64) for _ in range(2))
    assert np.array_equal(one[0], other[0])
    assert all(np.array_equal(a, b) for a, b in zip(one[1], other[1], strict=True))


def test_cells_do_not_overlap() -> None:
    _, masks = scenes.cells(np.random.default_rng(1), 128)
    assert np.sum(masks, axis=0).max() == 1
