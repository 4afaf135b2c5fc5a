from __future__ import annotations

import numpy as np
import pytest
import torch

from maskloop.segment.catalog import Catalog
from maskloop.segment.clicknet import ClickNet
from maskloop.segment.clicknet_decoder import PromptMaps
from maskloop.segment.clicknet_state import Look, generous
from maskloop.settings import default_models_dir


@pytest.fixture(scope="module")
def model() -> ClickNet:
    loaded = Catalog(default_models_dir()).load("clicknet", "cpu", 1)
    assert isinstance(loaded, ClickNet)
    return loaded


def expected_iou(probability: np.ndarray, mask: np.ndarray) -> float:
    inside = float(probability[mask].sum())
    return inside / (int(mask.sum()) + float(probability.sum()) - inside)


def test_a_first_answer_has_the_largest_expected_overlap() -> None:
    rng = np.random.default_rng(3)
    logits = (rng.normal(-1.5, 1.5, (200, 200))).astype(np.float32)
    probability = 1 / (1 + np.exp(-logits))
    best = max(expected_iou(probability, probability > cut) for cut in np.linspace(0.02, 0.98, 97))
    found = expected_iou(probability, generous(logits, best) > 0)
    assert abs(found - best) < 1e-3
    assert found > expected_iou(probability, logits > 0) + 0.01


def test_a_hopeless_score_does_not_make_everything_the_mask() -> None:
    assert not (generous(np.full((4, 4), -4.0, np.float32), 0.0) > 0).any()


def test_only_an_answer_without_a_mask_to_correct_is_generous(model: ClickNet) -> None:
    features = model.features(np.random.default_rng(0).integers(0, 255, (65, 65, 3), np.uint8))
    point = torch.tensor([[[30.0, 30.0, 1.0]]])
    none, two = torch.zeros(1, 1, 65, 65), torch.zeros(1, 2, 65, 65)
    started = none.clone()
    started[..., 20:40, 20:40] = 0.9
    for previous in (none, started):
        prompts = PromptMaps(point, none, two, previous)
        ((logits, score),) = model.answers([Look(features, prompts, None)])
        with torch.inference_mode():
            plain, judged = model.network.decode(features, prompts)
        raw = plain[0, int(judged[0].argmax())].numpy()
        raised = -np.log(score) if previous is none else 0.0
        np.testing.assert_allclose(logits - raw, raised, atol=1e-5)


def test_looks_with_more_and_fewer_clicks_are_answered_in_one_pass_as_apart(model: ClickNet) -> None:
    rng = np.random.default_rng(1)
    none, two = torch.zeros(1, 1, 65, 65), torch.zeros(1, 2, 65, 65)
    looks = [
        Look(
            model.features(rng.integers(0, 255, (65, 65, 3)).astype(np.uint8)),
            PromptMaps(torch.tensor([points]), none, two, none),
            None,
        )
        for points in ([[40.0, 20.0, 1.0]], [[30.0, 30.0, 1.0], [9.0, 50.0, 0.0], [50.0, 50.0, 1.0]])
    ]
    for look, (logits, score) in zip(looks, model.answers(looks), strict=True):
        ((alone, sure),) = model.answers([look])
        np.testing.assert_allclose(logits, alone, atol=1e-3)
        assert abs(score - sure) < 1e-4
