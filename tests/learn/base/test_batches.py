from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from maskloop.learn.base.batches import Batches, Recipe

RECIPE = Recipe(batch=2, size=65, large=81, large_share=0.5)


def test_a_batch_follows_from_its_number_however_the_run_was_interrupted(training_data: Path) -> None:
    whole = list(islice(Batches(training_data, RECIPE, 0), 5))
    resumed = list(islice(Batches(training_data, RECIPE, 3), 2))
    for first, second in zip(whole[3:], resumed, strict=True):
        for one, other in zip(first, second, strict=True):
            assert np.array_equal(one.pixels, other.pixels)
            assert np.array_equal(one.truth, other.truth)


def test_a_batch_is_of_one_of_the_two_sizes(training_data: Path) -> None:
    sides = [{sample.truth.shape for sample in batch} for batch in islice(Batches(training_data, RECIPE, 0), 8)]
    assert all(len(one) == 1 for one in sides)
    assert set.union(*sides) == {(65, 65), (81, 81)}
