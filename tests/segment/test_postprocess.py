from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskloop.segment.postprocess import clean, honoured, pixel
from maskloop.segment.prompt import Box, Mask, Point, Prompt, Scribble


def rectangle(x0: int, y0: int, x1: int, y1: int, size: int = 100) -> Mask:
    mask = np.zeros((size, size), bool)
    mask[y0:y1, x0:x1] = True
    return mask


LEFT, RIGHT = rectangle(10, 10, 40, 40), rectangle(60, 10, 90, 40)


def test_a_piece_nobody_clicked_goes() -> None:
    cleaned = clean(LEFT | RIGHT, Prompt((Point(20, 20),)))
    assert np.array_equal(cleaned, LEFT)


def test_every_clicked_piece_stays() -> None:
    cleaned = clean(LEFT | RIGHT, Prompt((Point(20, 20), Point(70, 20))))
    assert np.array_equal(cleaned, LEFT | RIGHT)


@pytest.mark.parametrize(
    "prompt",
    [Prompt(box=Box(5, 5, 45, 45)), Prompt(prior=rectangle(12, 12, 20, 20)), Prompt(scribbles=(Scribble(LEFT),))],
)
def test_box_prior_and_stroke_say_which_piece_is_meant(prompt: Prompt) -> None:
    assert np.array_equal(clean(LEFT | RIGHT, prompt), LEFT)


def test_specks_and_pinholes_go_unless_clicked() -> None:
    noisy = LEFT | rectangle(80, 80, 81, 81)
    noisy[25, 25] = False
    assert np.array_equal(clean(noisy, Prompt(box=Box(0, 0, 100, 100))), LEFT)
    asked = clean(noisy, Prompt((Point(20.5, 20.5), Point(80.5, 80.5), Point(25.5, 25.5, False))))
    assert asked[80, 80]
    assert not asked[25, 25]


def test_a_large_hole_is_no_pinhole() -> None:
    ring = LEFT & ~rectangle(20, 20, 30, 30)
    assert np.array_equal(clean(ring, Prompt((Point(12, 12),))), ring)


def test_an_ignored_click_is_forced_with_a_disc() -> None:
    mask = np.zeros((500, 500), bool)
    added = honoured(mask, [Point(250.5, 250.5)])
    assert added[250, 250]
    assert 9 <= added.sum() <= 100
    assert not honoured(~mask, [Point(250.5, 250.5, False)])[250, 250]


def test_of_two_clicks_on_one_pixel_the_later_wins() -> None:
    assert not honoured(LEFT, [Point(50.2, 50.2), Point(50.8, 50.8, False)])[50, 50]


def test_a_click_beyond_the_edge_counts_at_the_edge() -> None:
    assert pixel(Point(100.0, -3.0), (50, 100)) == (99, 0)


coordinate = st.floats(0, 39.9, allow_nan=False)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.builds(Point, coordinate, coordinate, st.booleans()), max_size=6),
    st.floats(0.02, 0.98),
)
def test_every_click_is_honoured_and_cleaning_is_stable(seed: int, points: list[Point], share: float) -> None:
    mask = np.random.default_rng(seed).random((40, 40)) < share
    prompt = Prompt(tuple(points))
    cleaned = clean(mask, prompt)
    last = {pixel(point, mask.shape): point.positive for point in points}
    for (x, y), positive in last.items():
        assert bool(cleaned[y, x]) == positive
    assert np.array_equal(clean(cleaned, prompt), cleaned)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.builds(Point, coordinate, coordinate, st.booleans()), max_size=6),
    st.sampled_from([1, 2, 3, 8]),
    st.floats(0.02, 0.98),
    st.booleans(),
    st.booleans(),
)
def test_cleaning_twice_is_cleaning_once(
    seed: int, points: list[Point], grain: int, share: float, boxed: bool, started: bool
) -> None:
    """Of masks with pieces, holes and islands of every size, on an image large enough for discs of several pixels."""
    rng = np.random.default_rng(seed)
    grains = rng.random((-(-480 // (12 * grain)), -(-480 // (12 * grain)))) < share
    mask = np.kron(grains, np.ones((12 * grain, 12 * grain), bool))[:480, :480] ^ (rng.random((480, 480)) < 0.001)
    larger = tuple(Point(12 * p.x, 12 * p.y, p.positive) for p in points)
    prior = rng.random((480, 480)) < 0.0002 if started else None
    prompt = Prompt(larger, Box(100, 100, 300, 300) if boxed else None, (), prior)
    cleaned = clean(mask, prompt)
    assert np.array_equal(clean(cleaned, prompt), cleaned)


def test_a_click_beside_everything_adds_its_disc_and_takes_nothing() -> None:
    pieces = rectangle(50, 50, 200, 200, 400) | rectangle(50, 250, 200, 300, 400)
    prompt = Prompt((Point(300, 350),))
    cleaned = clean(pieces, prompt)
    assert cleaned[350, 300]
    assert np.array_equal(cleaned & pieces, pieces)
    assert np.array_equal(clean(cleaned, prompt), cleaned)


def test_what_a_negative_click_cuts_off_goes() -> None:
    bar = rectangle(10, 248, 490, 251, 500)
    cleaned = clean(bar, Prompt((Point(50, 249), Point(250, 249, False))))
    assert cleaned[249, 50]
    assert not cleaned[249, 250:].any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
@pytest.mark.parametrize("value", [True, False])
def test_tiny_masks(shape: tuple[int, int], value: bool) -> None:
    mask = np.full(shape, value)
    assert clean(mask, Prompt((Point(0.5, 0.5),)))[0, 0]
    assert not clean(mask, Prompt((Point(0.5, 0.5, False),)))[0, 0]
    assert clean(mask, Prompt(box=Box(0, 0, 1, 1))).shape == shape
