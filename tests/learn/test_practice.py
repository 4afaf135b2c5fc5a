from __future__ import annotations

import numpy as np
import pytest
import torch

from maskloop.learn import practice
from maskloop.learn.views import SIDE, View
from maskloop.segment.clicknet_encoder import CHANNELS, STRIDES


def view(left: int, top: int, right: int, bottom: int) -> View:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top:bottom, left:right] = True
    features = {
        name: torch.zeros(width, SIDE // STRIDES[name] + 1, SIDE // STRIDES[name] + 1, dtype=torch.float16)
        for name, width in CHANNELS.items()
    }
    return View(features, mask, None)


VIEWS = [view(60, 80, 180, 150), view(10, 10, 40, 50), view(100, 20, 240, 230)]


@pytest.mark.parametrize("seed", range(8))
def test_a_wrong_mask_is_wrong_and_its_clicks_are_right(seed: int) -> None:
    exercise = practice.begin_wrong(VIEWS, np.random.default_rng(seed))
    started = [k for k in range(len(VIEWS)) if exercise.previous[k].max() > 0.5]
    assert started, "most exercises begin with a mask"
    wanted = exercise.truth[:, 0].numpy() > 0.5
    for k in started:
        wrong = exercise.previous[k, 0].numpy() > 0.5
        assert (wrong != wanted[k]).any()
        assert (wrong == VIEWS[k].mask).all() or (wanted[k] == VIEWS[k].mask).all()
        for x, y, sign in exercise.points[k]:
            assert wanted[k, int(y), int(x)] == bool(sign)
    assert not exercise.ambiguous[started].any()
    practice.click(exercise, None)
    for k in range(len(VIEWS)):
        x, y, sign = exercise.points[k][-1]
        assert wanted[k, int(y), int(x)] == bool(sign), "the correction goes where the mask is wrong"
        assert (exercise.previous[k, 0, int(y), int(x)] > 0.5) != bool(sign)


def test_one_click_on_nothing_is_ambiguous_until_a_second() -> None:
    exercise = practice.begin(VIEWS, np.random.default_rng(0), boxes=0.0)
    practice.click(exercise, None)
    assert exercise.ambiguous.all()
    practice.click(exercise, None)
    assert not exercise.ambiguous.any()
