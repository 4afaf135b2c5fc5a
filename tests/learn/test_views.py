from __future__ import annotations

import numpy as np
import pytest

from maskloop.learn.views import SIDE, cut


def picture(size: tuple[int, int], box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros(size, bool)
    mask[box[1] : box[3], box[0] : box[2]] = True
    pixels = np.full((*size, 3), 40, np.uint8)
    pixels[mask] = 200
    return pixels, mask


@pytest.mark.parametrize("size", [(60, 80), (300, 200), (900, 1400)])
@pytest.mark.parametrize("augment", [False, True])
def test_the_mask_stays_on_its_object_whatever_is_done_to_the_view(size: tuple[int, int], augment: bool) -> None:
    height, width = size
    pixels, mask = picture(size, (width // 3, height // 3, width // 2, height // 2))
    for seed in range(12):
        view, seen = cut(pixels, mask, np.random.default_rng(seed), augment)
        assert view.shape == (SIDE, SIDE, 3)
        assert seen.shape == (SIDE, SIDE)
        bright = view.mean(axis=2) > 120
        assert np.count_nonzero(bright & seen) / np.count_nonzero(bright | seen) > 0.85


def test_the_same_seed_gives_the_same_view() -> None:
    pixels, mask = picture((90, 120), (30, 30, 60, 50))
    one, other = (cut(pixels, mask, np.random.default_rng(5), True) for _ in range(2))
    assert (one[0] == other[0]).all()
    assert (one[1] == other[1]).all()
