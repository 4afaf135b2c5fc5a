from __future__ import annotations

import numpy as np

from maskloop.segment.familiarity import Familiarity, signature
from maskloop.segment.segmenter import Embedding


def test_what_looks_like_the_known_images_is_familiar() -> None:
    rng = np.random.default_rng(0)

    def look(level: float) -> np.ndarray:
        features = rng.normal(0, 0.1, (16, 5, 5)) + np.linspace(0, level, 16)[:, None, None]
        return signature(Embedding({"f16": features.astype(np.float16)}, (80, 80), "x"))

    known = Familiarity([look(1.0) for _ in range(6)])
    assert known.of(look(1.0)) > 0.6
    assert known.of(look(-1.0)) == 0.0
    assert known.knows(look(1.0))
    assert not known.knows(look(-1.0))


def test_known_images_that_are_all_alike_do_not_make_a_near_one_strange() -> None:
    def at(degrees: float) -> np.ndarray:
        return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)

    frames = Familiarity([at(0.1 * k) for k in range(6)])
    assert frames.of(at(10)) == 0.0
    assert frames.knows(at(10))
    assert not frames.knows(at(20))
    scattered = Familiarity([at(0), at(20), at(40)])
    assert scattered.knows(at(60))
    assert not scattered.knows(at(80))


def test_without_features_or_known_images_nothing_is_familiar() -> None:
    one = np.array([0.6, 0.8], np.float32)
    nothing = signature(Embedding({"pixels": np.zeros((4, 4, 3), np.uint8)}, (4, 4), "x"))
    assert not nothing.size
    assert Familiarity([]).of(one) == 0.0
    assert Familiarity([]).of(nothing) == 0.0
    assert Familiarity([one]).of(nothing) == 0.0
    assert Familiarity([one]).of(one) == 1.0
    assert not Familiarity([]).knows(one)
    assert not Familiarity([one]).knows(nothing)


def test_signatures_of_another_encoder_are_left_out() -> None:
    one, other = np.array([0.6, 0.8], np.float32), np.array([1.0, 0.0, 0.0], np.float32)
    assert Familiarity([other, one]).of(one) == 1.0
    assert Familiarity([one, other]).of(one) == 0.0
