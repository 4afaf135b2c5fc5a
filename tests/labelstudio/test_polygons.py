from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from maskloop.labelstudio.polygons import rings
from maskloop.segment.prompt import Mask


def filled(mask: Mask) -> Mask:
    """The rings as an editor fills them: a pixel belongs to what its centre lies in."""
    out = np.zeros_like(mask)
    for ring in rings(mask):
        out |= polygon2mask(mask.shape, np.array([(y - 0.5, x - 0.5) for x, y in ring]))
    return out


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / (a | b).sum())


def canvas(side: int) -> tuple[np.ndarray, np.ndarray]:
    ys, xs = np.mgrid[:side, :side]
    return ys + 0.5, xs + 0.5


def disc(side: int, radius: float) -> Mask:
    ys, xs = canvas(side)
    return np.hypot(ys - side / 2, xs - side / 2) < radius


@pytest.mark.parametrize("side", [40, 150, 600])
def test_a_disc_needs_few_corners(side: int) -> None:
    mask = disc(side, 0.4 * side)
    (ring,) = rings(mask)
    assert iou(filled(mask), mask) >= 0.98
    assert len(ring) <= 48


@pytest.mark.parametrize("side", [60, 300])
def test_a_hole_stays_a_hole(side: int) -> None:
    mask = disc(side, 0.4 * side) & ~disc(side, 0.2 * side)
    assert len(rings(mask)) == 1
    found = filled(mask)
    assert not found[side // 2, side // 2]
    assert iou(found, mask) >= 0.98


def test_several_holes() -> None:
    mask = np.ones((90, 120), bool)
    for x in (10, 50, 90):
        mask[20:60, x : x + 20] = False
    assert iou(filled(mask), mask) == 1.0


def test_several_parts_largest_first() -> None:
    mask = np.zeros((100, 200), bool)
    mask[10:30, 10:30] = True
    mask[10:90, 60:180] = True
    found = rings(mask)
    assert len(found) == 2
    assert min(x for x, _ in found[0]) == 60
    assert iou(filled(mask), mask) == 1.0


def test_specks_are_dropped_within_the_allowance() -> None:
    mask = disc(300, 100)
    mask[2, 2] = mask[297, 5] = True
    mask[150, 150] = False
    assert len(rings(mask)) == 1
    assert iou(filled(mask), mask) >= 0.98


def test_many_small_parts_are_all_kept() -> None:
    mask = np.zeros((64, 64), bool)
    mask[::8, ::8] = True
    assert len(rings(mask)) == 64


def test_corners_are_pixel_corners() -> None:
    mask = np.zeros((20, 20), bool)
    mask[5:9, 3:11] = True
    (ring,) = rings(mask)
    assert set(ring) == {(3.0, 5.0), (11.0, 5.0), (11.0, 9.0), (3.0, 9.0)}


def test_an_empty_mask_has_no_rings() -> None:
    assert rings(np.zeros((5, 5), bool)) == ()


def test_the_whole_image() -> None:
    (ring,) = rings(np.ones((30, 40), bool))
    assert {(0.0, 0.0), (40.0, 30.0)} <= set(ring)


@given(st.integers(0, 2**32 - 1), st.integers(12, 100), st.integers(12, 100), st.floats(1.0, 8.0), st.floats(0.3, 0.7))
@settings(deadline=None, max_examples=15)
def test_any_shape_keeps_98_percent(seed: int, height: int, width: int, blur: float, level: float) -> None:
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    mask: Mask = smooth > np.quantile(smooth, level)
    if mask.any():
        assert iou(filled(mask), mask) >= 0.98
