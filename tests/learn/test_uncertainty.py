from __future__ import annotations

import hashlib

import numpy as np
import pytest

from maskloop.learn.uncertainty import agreement, certainty
from maskloop.segment.prompt import Box, Point, Prompt
from maskloop.segment.segmenter import Embedding, Prediction


class Fixed:
    """Answers a box with the box, and a point with a disc whose radius depends on where it is."""

    name, encoder = "fixed", "x"

    def __init__(self, firm: bool) -> None:
        self.firm = firm

    def encode(self, image: np.ndarray) -> Embedding:
        return Embedding({}, image.shape[:2], "x")

    def decode(self, embedding: Embedding, prompt: Prompt) -> Prediction:
        mask = np.zeros(embedding.size, bool)
        x = prompt.points[0].x if prompt.points else 0
        size = 20 if self.firm or abs(x - 50) < 0.1 else 5
        mask[40 - size : 40 + size, 50 - size : 50 + size] = True
        return Prediction(mask, 0.8)


def content(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_doubtful_masks_come_before_sure_ones() -> None:
    sure = certainty(content(1), [0.9, 0.95], [0.9, 0.9], 0.9, share=0)
    doubtful = certainty(content(1), [0.4, 0.5], [0.5, 0.6], 0.2, share=0)
    assert doubtful.score < sure.score
    assert 0 <= doubtful.score <= sure.score <= 1
    assert doubtful.explain() == "unlike anything labelled so far"


def test_a_share_is_drawn_by_chance_and_stays_so() -> None:
    drawn = [certainty(content(k), [0.9], [0.9], 0.9) for k in range(2000)]
    assert 0.07 < np.mean([one.by_chance for one in drawn]) < 0.13
    assert drawn == [certainty(content(k), [0.9], [0.9], 0.9) for k in range(2000)]
    assert "by chance" in next(one for one in drawn if one.by_chance).explain()


def test_an_image_without_masks_is_judged_by_how_familiar_it_is() -> None:
    seen = certainty(content(3), [], [], 0.25, share=0)
    assert seen.score == pytest.approx(0.25)
    assert seen.explain() == "no mask is proposed"
    assert certainty(content(3), [], [], 0.0, share=0).explain() == "no mask is proposed, nothing like it was labelled"


def test_masks_that_change_when_the_prompt_moves_agree_less() -> None:
    embedding, prompt = Embedding({}, (80, 100), "x"), Prompt(points=(Point(50, 40),))
    values = []
    for firm in (True, False):
        segmenter = Fixed(firm)
        values.append(agreement(embedding, prompt, segmenter.decode(embedding, prompt).mask, segmenter))
    assert values[0] == 1.0
    assert values[1] < 0.2
    assert agreement(embedding, prompt, np.zeros((80, 100), bool), Fixed(True)) == 0.0
    assert agreement(embedding, Prompt(box=Box(0, 0, 100, 80)), np.ones((80, 100), bool), Fixed(True)) > 0
