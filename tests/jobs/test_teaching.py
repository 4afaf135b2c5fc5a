from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

pytest.importorskip("torch")

from maskloop.jobs.run import Run
from maskloop.jobs.teaching import LEARNED, VALIDATION_SHARE, apart, write_candidate
from maskloop.learn.checkpoint import Course
from maskloop.learn.network import load_network
from maskloop.learn.samples import Sample, Target
from maskloop.segment.card import labels_of, read_card
from maskloop.settings import default_models_dir

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


def test_a_candidate_says_which_labels_have_enough_objects_to_count_as_learned(tmp_path: Path) -> None:
    def sample(number: int, *labels: str | None) -> Sample:
        targets = [Target(number, f"r{k}", label, (2, 2), b"\xf0") for k, label in enumerate(labels)]
        return Sample(f"{number}", number, "", PIXELS, tuple(targets))

    trained = [sample(1, *["car"] * (LEARNED - 1), "tree", None), sample(2, "car", *[None] * LEARNED)]
    base = default_models_dir() / "clicknet"
    course = Course(dict(load_network(base).decoder.named_parameters()), 0.0)
    write_candidate(
        cast(Run, SimpleNamespace(project=3)), tmp_path / "new", base, course, trained, [np.ones(3, np.float32)]
    )
    assert labels_of(read_card(tmp_path / "new")) == ("car",)
    assert load_network(tmp_path / "new").known is not None
