from __future__ import annotations

import numpy as np

from maskloop.learn.pixels import BANK, MIXED, encoder_maps, look
from maskloop.segment.segmenter import Embedding

SIZE = (24, 32)


def embedding(**arrays: np.ndarray) -> Embedding:
    return Embedding({name: array.astype(np.float16) for name, array in arrays.items()}, SIZE, "x")


def test_maps_with_many_channels_come_last_so_that_older_heads_see_what_they_saw() -> None:
    rng = np.random.default_rng(0)
    fine, deep = rng.normal(size=(5, 12, 16)), rng.normal(size=(200, 3, 4))
    (before,), now = encoder_maps(embedding(z=fine), SIZE), encoder_maps(embedding(a=deep, z=fine), SIZE)
    assert [m.shape for m in now] == [(*SIZE, 5), (*SIZE, MIXED)]
    np.testing.assert_array_equal(now[0], before)
    assert look(np.zeros((*SIZE, 3), np.uint8), embedding(a=deep, z=fine)).shape == (*SIZE, BANK + 5 + MIXED)


def test_things_that_differ_still_differ_once_mixed() -> None:
    rng = np.random.default_rng(1)
    deep = rng.normal(size=(320, *SIZE))
    flat, mixed = deep.reshape(320, -1).T, encoder_maps(embedding(deep=deep), SIZE)[0].reshape(-1, MIXED)
    pairs = rng.integers(0, len(flat), (200, 2))
    far = [np.linalg.norm(flat[a] - flat[b]) for a, b in pairs if a != b]
    kept = [np.linalg.norm(mixed[a] - mixed[b]) for a, b in pairs if a != b]
    ratio = np.array(kept) / np.array(far) / np.sqrt(MIXED / 320)
    assert np.all((ratio > 0.6) & (ratio < 1.4))


def test_the_mixture_is_the_same_everywhere_and_always() -> None:
    one = np.zeros((129, 1, 1))
    one[7] = 1.0
    signs = np.sign(encoder_maps(embedding(deep=one), (8, 8))[0][0, 0])
    assert (
        "".join("+" if sign > 0 else "-" for sign in signs)
        == "--++-++--+++--++++++---+++-+-------+-++---+++++-++-+++-+-----+++"
    )


def test_an_embedding_without_maps_has_no_channels() -> None:
    assert encoder_maps(Embedding({"pixels": np.zeros((*SIZE, 3), np.uint8)}, SIZE, "x"), SIZE) == []


def test_a_head_that_sees_the_filter_bank_alone_is_given_no_more() -> None:
    rng = np.random.default_rng(2)
    pixels, seen = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8), embedding(f=rng.normal(size=(5, 12, 16)))
    np.testing.assert_array_equal(look(pixels, seen, BANK), look(pixels, seen)[..., :BANK])
    assert look(pixels, seen, BANK + 5).shape[-1] == BANK + 5
