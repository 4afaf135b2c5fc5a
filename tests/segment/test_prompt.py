from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskloop.segment.prompt import Box, Point, Prompt, Scribble, pack_mask, unpack_mask

masks = arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))
coordinates = st.floats(-10, 5000, allow_nan=False)
points = st.builds(Point, coordinates, coordinates, st.booleans())


@given(masks)
def test_a_packed_mask_comes_back(mask: np.ndarray) -> None:
    packed = json.loads(json.dumps(pack_mask(mask)))
    assert (unpack_mask(packed) == mask).all()


@given(st.lists(points, max_size=5), st.none() | st.builds(Box, *[coordinates] * 4), masks)
def test_a_prompt_comes_back_from_json(some: list[Point], box: Box | None, mask: np.ndarray) -> None:
    prompt = Prompt(tuple(some), box, (Scribble(mask, False),), mask, "Cat")
    back = Prompt.from_json(json.loads(json.dumps(prompt.to_json())))
    assert (back.points, back.box, back.scribbles[0].positive, back.label) == (prompt.points, box, False, "Cat")
    assert back.prior is not None
    assert (back.prior == mask).all()
    assert (back.scribbles[0].mask == mask).all()
    assert back.digest() == prompt.digest()


def test_different_prompts_have_different_digests() -> None:
    prompts = [Prompt(), Prompt((Point(1, 2),)), Prompt((Point(1, 2, False),)), Prompt(box=Box(1, 2, 3, 4))]
    prompts.append(Prompt(label="Cat"))
    assert len({p.digest() for p in prompts}) == len(prompts)
    assert [p.empty for p in prompts] == [True, False, False, False, True]


@pytest.mark.parametrize("size", [[1000, 1000], [8, 9], [0, 5]])
def test_bits_that_do_not_fill_the_size_are_refused(size: list[int]) -> None:
    packed = pack_mask(np.ones((8, 8), bool))
    with pytest.raises(ValueError, match="needs"):
        unpack_mask({**packed, "size": size})


def test_a_bomb_is_not_inflated() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(100_000_000), 9)).decode()
    with pytest.raises(ValueError, match="needs 8 bytes"):
        unpack_mask({"size": [8, 8], "bits": bomb})


def test_a_box_contains_what_its_growth_reaches() -> None:
    box = Box(10, 10, 20, 30)
    assert box.contains(15, 20)
    assert not box.contains(21, 20)
    assert box.contains(22, 34, grow=0.25)
    assert not box.contains(23, 20, grow=0.25)


def test_one_click_and_nothing_else_is_ambiguous() -> None:
    one = (Point(1, 2),)
    mask = np.ones((4, 4), bool)
    assert Prompt(one).ambiguous
    more = [
        Prompt(one * 2),
        Prompt(one, Box(0, 0, 4, 4)),
        Prompt(one, scribbles=(Scribble(mask),)),
        Prompt(one, prior=mask),
    ]
    assert not any(prompt.ambiguous for prompt in [*more, Prompt(), Prompt(box=Box(0, 0, 4, 4))])
