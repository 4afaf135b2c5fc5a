from __future__ import annotations

import hashlib

import numpy as np
import pytest

pytest.importorskip("torch")

from maskloop.jobs.teaching import VALIDATION_SHARE, apart
from maskloop.learn.samples import Sample

PIXELS = np.zeros((2, 2, 3), np.uint8)


def images(count: int) -> list[Sample]:
    names = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]
    return [Sample(name, number, "", PIXELS) for number, name in enumerate(names)]


def contents(samples: list[Sample]) -> set[str]:
    return {sample.content for sample in samples}


def test_an_image_that_was_taught_never_judges_a_later_training() -> None:
    taught: set[str] = set()
    for count in range(12, 200, 4):
        validation, train = apart(images(count))
        assert not contents(validation) & taught
        assert contents(validation) | contents(train) == contents(images(count))
        taught |= contents(train)


def test_about_a_fifth_judge() -> None:
    validation, train = apart(images(400))
    assert len(validation) / 400 == pytest.approx(VALIDATION_SHARE, abs=0.05)
    assert not contents(validation) & contents(train)


@pytest.mark.parametrize("first", range(40))
def test_of_two_images_one_teaches_and_one_judges(first: int) -> None:
    validation, train = apart(images(first + 2)[first:])
    assert (len(validation), len(train)) == (1, 1)
