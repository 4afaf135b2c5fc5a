from __future__ import annotations

import numpy as np
import pytest

from maskloop.segment.correction import constrain
from maskloop.segment.prompt import Mask, Point, Prompt


def square(x0: int, y0: int, x1: int, y1: int) -> Mask:
    mask = np.zeros((60, 80), bool)
    mask[y0:y1, x0:x1] = True
    return mask


BASE = square(10, 10, 40, 40)


def test_a_positive_click_adds_its_piece_and_removes_nothing() -> None:
    answer = square(30, 30, 60, 50) | square(70, 0, 75, 5)
    corrected = constrain(answer, BASE, Prompt(points=(Point(55, 45),)))
    assert (corrected == (BASE | square(30, 30, 60, 50))).all()


def test_a_negative_click_removes_its_piece_and_adds_nothing() -> None:
    answer = square(10, 10, 40, 25) | square(50, 50, 60, 60)
    corrected = constrain(answer, BASE, Prompt(points=(Point(20, 35, positive=False),)))
    assert (corrected == square(10, 10, 40, 25)).all()


def test_a_click_that_changes_nothing_leaves_the_mask_alone() -> None:
    corrected = constrain(square(0, 0, 5, 5), BASE, Prompt(points=(Point(20, 20), Point(70, 50, positive=False))))
    assert (corrected == BASE).all()


def test_an_empty_answer_never_destroys_a_mask() -> None:
    empty = np.zeros_like(BASE)
    assert (constrain(empty, BASE, Prompt(points=(Point(20, 20),))) == BASE).all()


def test_a_click_on_the_border_counts_as_inside() -> None:
    edge = square(60, 0, 80, 10)
    corrected = constrain(edge, BASE, Prompt(points=(Point(80, 0),)))
    assert (corrected == (BASE | edge)).all()


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="pixels"):
        constrain(np.zeros((5, 5), bool), BASE, Prompt(points=(Point(1, 1),)))
