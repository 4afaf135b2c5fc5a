from __future__ import annotations

import pytest
import torch

from maskloop.learn.base.loss import click_loss, edge_band, hard_iou


@pytest.fixture
def truth() -> torch.Tensor:
    truth = torch.zeros(2, 1, 33, 33)
    truth[:, :, 8:24, 8:24] = 1
    return truth


def loss_of(logits: torch.Tensor, truth: torch.Tensor, ambiguous: bool, judged: float = 0.0) -> float:
    valid = torch.ones_like(truth)
    scores = torch.full(logits.shape[:2], judged)
    told = torch.full((len(logits),), ambiguous)
    return float(click_loss(logits, scores, truth, valid, edge_band(truth, valid), told)[0])


def test_better_masks_cost_less(truth: torch.Tensor) -> None:
    right = (truth * 2 - 1).repeat(1, 3, 1, 1) * 6
    assert loss_of(right, truth, False) < loss_of(right * 0, truth, False) < loss_of(-right, truth, False)


def test_an_ambiguous_prompt_is_judged_by_its_best_mask(truth: torch.Tensor) -> None:
    right = (truth * 2 - 1).repeat(1, 3, 1, 1) * 6
    one_of_three = right.clone()
    one_of_three[:, 1:] *= -1
    assert loss_of(one_of_three, truth, True) < 0.5 * loss_of(one_of_three, truth, False)


def test_a_score_that_knows_the_iou_costs_less(truth: torch.Tensor) -> None:
    right = (truth * 2 - 1).repeat(1, 3, 1, 1) * 6
    assert loss_of(right, truth, False, judged=4.0) < loss_of(right, truth, False, judged=-4.0)


def test_what_is_not_valid_counts_nowhere(truth: torch.Tensor) -> None:
    valid = torch.ones_like(truth)
    valid[..., :8] = 0
    good = (truth * 2 - 1).repeat(1, 3, 1, 1) * 6
    bad = good.clone()
    bad[..., :8] = 6
    band, told, scores = edge_band(truth, valid), torch.tensor([False, False]), torch.zeros(2, 3)
    assert torch.allclose(*(click_loss(x, scores, truth, valid, band, told)[0] for x in (good, bad)))
    assert torch.equal(hard_iou(bad, truth, valid), torch.ones(2, 3))


def test_iou_of_nothing_with_nothing_is_one() -> None:
    nothing = torch.zeros(1, 1, 9, 9)
    assert hard_iou(nothing - 1, nothing, nothing + 1).item() == 1
