from __future__ import annotations

import numpy as np

from maskloop.learn.islands import Manner, Proposal, islands, without_doubles
from maskloop.segment.prompt import Mask

SIZE = (96, 128)


def disc(x: float, y: float, radius: float) -> Mask:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def test_objects_that_touch_are_taken_apart() -> None:
    left, right = disc(50, 48, 14), disc(76, 48, 14)
    likeness = np.where(left | right, 0.9, 0.05).astype(np.float32)
    found = islands(likeness, np.zeros(SIZE, np.float32), Manner(0.5, 14.0, 50, 2000, "region"))
    assert len(found) == 2


def test_of_two_masks_of_one_object_the_better_stays() -> None:
    one, other = disc(40, 40, 14), disc(42, 40, 13)
    far = disc(100, 40, 10)
    kept = without_doubles([Proposal(one, "a", 0.9), Proposal(other, "b", 0.8), Proposal(far, "a", 0.7)])
    assert [p.score for p in kept] == [0.9, 0.7]
