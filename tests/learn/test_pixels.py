from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from maskloop.learn.head import Head, maps
from maskloop.learn.pixels import BANK, MIXED, Appearance, Map, encoder_maps, look
from maskloop.segment.prompt import Box, Image, Prompt
from maskloop.segment.segmenter import Closer, Embedding, Prediction, Segmenter

SIZE = (24, 32)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (*SIZE, 3)).astype(np.uint8)


def embedding(**arrays: np.ndarray) -> Embedding:
    return Embedding({name: array.astype(np.float16) for name, array in arrays.items()}, SIZE, "x")


def encoded(**arrays: np.ndarray) -> list[np.ndarray]:
    return list(encoder_maps(embedding(**arrays).arrays))


class Far:
    """A segmenter that sees an image at one size."""

    name = encoder = "x"

    def encode(self, image: Image) -> Embedding:
        raise AssertionError("nobody asks for this here")

    def decode(self, embedding: Embedding, prompt: Prompt) -> Prediction:
        raise AssertionError("nobody asks for this here")


class Near(Far):
    """One that looks at parts too, and says how far its part's middle lies from the left and from the top."""

    def __init__(self) -> None:
        self.asked: list[Box] = []

    def closer(self, embedding: Embedding, part: Box) -> Mapping[str, np.ndarray]:
        self.asked.append(part)
        middle = np.array([(part.x0 + part.x1) / 2, (part.y0 + part.y1) / 2], np.float16)
        return {"f": np.broadcast_to(middle[:, None, None], (2, 6, 8))}


def test_maps_with_many_channels_come_last_so_that_older_heads_see_what_they_saw() -> None:
    fine, deep = RNG.normal(size=(5, 12, 16)), RNG.normal(size=(200, 3, 4))
    (before,), now = encoded(z=fine), encoded(a=deep, z=fine)
    assert [m.shape for m in now] == [(12, 16, 5), (3, 4, MIXED)]
    np.testing.assert_array_equal(now[0], before)
    seen = look(PIXELS, embedding(a=deep, z=fine), Near())
    assert [layer[0].values.shape[-1] for layer in seen.layers] == [BANK, 5, MIXED, 2]
    assert seen.channels == BANK + 5 + MIXED + 2


def test_each_quarter_of_an_image_is_looked_at_with_something_around_it() -> None:
    near = Near()
    assert isinstance(near, Segmenter)
    assert isinstance(near, Closer)
    seen = look(PIXELS, embedding(f=RNG.normal(size=(5, 12, 16))), near)
    laid = seen.spread(seen.layers[-1], lambda values: values)
    for rows, columns, box in zip(
        (slice(0, 12), slice(0, 12), slice(12, 24), slice(12, 24)),
        (slice(0, 16), slice(16, 32), slice(0, 16), slice(16, 32)),
        near.asked,
        strict=True,
    ):
        assert box.x0 <= columns.start <= columns.stop <= box.x1
        assert box.y0 <= rows.start <= rows.stop <= box.y1
        assert (box.x1 - box.x0) * (box.y1 - box.y0) < 0.4 * SIZE[0] * SIZE[1]
        assert np.all(laid[rows, columns] == ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))


def test_the_features_of_a_few_places_are_those_of_the_grid() -> None:
    def around(*spans: slice) -> Map:
        return Map(RNG.normal(size=(5, 7, 3)).astype(np.float32), (spans[0], spans[1]), (slice(0, 24), spans[2]))

    fine = RNG.normal(size=(1, 13, 2)).astype(np.float32)
    layers = [
        [around(slice(0, 24), slice(0, 20), slice(0, 16)), around(slice(0, 24), slice(12, 32), slice(16, 32))],
        [Map(fine, (slice(0, 24), slice(0, 32)), (slice(0, 24), slice(0, 32)))],
    ]
    seen = Appearance(SIZE, layers)
    grid = np.concatenate([seen.spread(layer, lambda values: values) for layer in layers], axis=-1)
    places = RNG.permutation(SIZE[0] * SIZE[1])[:500]
    np.testing.assert_allclose(seen.at(places), grid.reshape(-1, 5)[places], atol=1e-5)


def test_a_head_sees_the_same_of_a_grid_as_of_its_pixels() -> None:
    seen = look(PIXELS, embedding(a=RNG.normal(size=(5, 12, 16)), z=RNG.normal(size=(200, 3, 4))), Near())
    every = seen.at(np.arange(SIZE[0] * SIZE[1]))
    for width in (BANK, BANK + 5 + MIXED, seen.channels):
        torch.manual_seed(0)
        head = Head(width, 2).eval()
        head.mean.copy_(torch.from_numpy(every[:, :width].mean(0)))
        head.spread.copy_(torch.from_numpy(every[:, :width].std(0) * 3 + 1))
        likeness, depth = maps(head, look(PIXELS, embedding(), Far()) if width == BANK else seen)
        with torch.inference_mode():
            alone = head(torch.from_numpy(every[:, :width])).sigmoid().numpy().reshape(*SIZE, 3)
        np.testing.assert_allclose(np.moveaxis(likeness, 0, -1), alone[..., :2], atol=1e-4)
        np.testing.assert_allclose(depth, alone[..., 2], atol=1e-4)


def test_things_that_differ_still_differ_once_mixed() -> None:
    rng = np.random.default_rng(1)
    deep = rng.normal(size=(320, *SIZE))
    flat, mixed = deep.reshape(320, -1).T, encoded(deep=deep)[0].reshape(-1, MIXED)
    pairs = rng.integers(0, len(flat), (200, 2))
    far = [np.linalg.norm(flat[a] - flat[b]) for a, b in pairs if a != b]
    kept = [np.linalg.norm(mixed[a] - mixed[b]) for a, b in pairs if a != b]
    ratio = np.array(kept) / np.array(far) / np.sqrt(MIXED / 320)
    assert np.all((ratio > 0.6) & (ratio < 1.4))


def test_the_mixture_is_the_same_everywhere_and_always() -> None:
    one = np.zeros((129, 1, 1))
    one[7] = 1.0
    signs = np.sign(encoded(deep=one)[0][0, 0])
    assert (
        "".join("+" if sign > 0 else "-" for sign in signs)
        == "--++-++--+++--++++++---+++-+-------+-++---+++++-++-+++-+-----+++"
    )


def test_an_embedding_without_maps_has_no_channels() -> None:
    assert encoder_maps({"pixels": np.zeros((*SIZE, 3), np.uint8)}) == []


def test_what_a_head_does_not_see_is_not_worked_out() -> None:
    near, found = Near(), embedding(f=RNG.normal(size=(5, 12, 16)))
    assert look(PIXELS, found, near, BANK).channels == BANK
    assert look(PIXELS, found, near, BANK + 5).channels == BANK + 5
    assert not near.asked
    assert look(PIXELS, found, near, BANK + 7).channels == BANK + 7
