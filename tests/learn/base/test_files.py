from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskloop.learn.base.files import Outline, mask_of, outlined, rows
from maskloop.settings import default_models_dir


def test_the_outlines_that_come_along_can_be_read_and_drawn() -> None:
    table = rows(default_models_dir() / "clicknet/found.csv", "image", "outline")
    found = outlined(Path("permissive"), table)
    assert sum(len(masks) for _, masks in found) == len(table) > 600
    assert {path.parent.name for path, _ in found} == {"backgrounds", "images"}
    canvas = np.zeros((640, 640, 3), np.uint8)
    shares = [float((mask_of(mask, canvas) > 0).mean()) for _, masks in found for mask in masks]
    assert min(shares) > 100 / 640**2
    assert max(shares) < 0.6


@pytest.mark.parametrize("text", ["1 2 3", "1 2 x 4", "1.5 2 3 4"])
def test_what_is_not_an_outline_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an outline"):
        Outline.parsed(text)


def test_a_ring_within_a_ring_is_a_hole() -> None:
    drawn = mask_of(Outline.parsed("2 2 12 2 12 12 2 12;5 5 9 5 9 9 5 9"), np.zeros((16, 16, 3), np.uint8))
    assert drawn[3, 3] == 255
    assert drawn[7, 7] == 0
    assert drawn[14, 14] == 0
