from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from scipy import ndimage

from maskloop.learn.clicks import depth, next_click
from maskloop.segment.prompt import Point


def disc(x: int, y: int, radius: int, size: int = 80) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    cv2.circle(mask, (x, y), radius, 1, -1)
    return mask.astype(bool)


def test_the_first_click_is_the_centre_of_the_object() -> None:
    truth = disc(30, 40, 12)
    assert next_click(np.zeros_like(truth), truth) == Point(30.5, 40.5, True)


def test_the_deeper_error_is_clicked() -> None:
    truth, spilt = disc(20, 20, 8), disc(60, 60, 14)
    assert next_click(spilt, truth) == Point(60.5, 60.5, False)
    assert next_click(spilt | truth, truth) == Point(60.5, 60.5, False)
    assert next_click(spilt & ~spilt, truth) == Point(20.5, 20.5, True)


def test_nothing_to_correct() -> None:
    truth = disc(30, 40, 12)
    assert next_click(truth, truth) is None


def test_the_edge_of_the_image_counts_as_the_edge_of_the_error() -> None:
    truth = np.ones((21, 41), bool)
    point = next_click(np.zeros_like(truth), truth)
    assert point is not None
    assert point.y == 10.5
    assert 10 <= point.x <= 31


def test_ignored_and_clicked_pixels_are_never_clicked() -> None:
    truth = disc(30, 40, 3)
    ignore = np.zeros_like(truth)
    ignore[40] = True
    first = next_click(np.zeros_like(truth), truth, ignore)
    assert first is not None
    assert int(first.y) != 40
    taken: tuple[Point, ...] = ()
    while (click := next_click(np.zeros_like(truth), truth, ignore, taken)) is not None:
        assert click not in taken
        taken = (*taken, click)
    assert len(taken) == int((truth & ~ignore).sum())


def test_a_careless_person_clicks_inside_the_error_too() -> None:
    truth, empty = disc(40, 40, 20), np.zeros((80, 80), bool)
    clicks = [next_click(empty, truth, rng=np.random.default_rng(n)) for n in range(20)]
    assert all(c is not None and truth[int(c.y), int(c.x)] and c.positive for c in clicks)
    assert len({(c.x, c.y) for c in clicks if c}) > 10


def test_depth_is_the_distance_to_the_outside() -> None:
    region = np.zeros((9, 9), bool)
    region[2:7, 2:7] = True
    assert depth(region)[4, 4] == pytest.approx(3)
    assert depth(region)[0, 0] == 0
    assert depth(np.ones((1, 1), bool))[0, 0] == pytest.approx(1)


@pytest.fixture
def one_opencv_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


@pytest.mark.usefixtures("one_opencv_thread")
def test_depths_are_exact_wherever_the_array_lies_in_memory() -> None:
    rng = np.random.default_rng(0)
    region = cv2.resize(rng.random((12, 16)).astype(np.float32), (481, 321)) > 0.55
    exact = np.sqrt(np.rint(ndimage.distance_transform_edt(np.pad(region, 1)) ** 2)).astype(np.float32)[1:-1, 1:-1]
    for _ in range(40):
        freed = [rng.random(int(rng.integers(1, 300_000))) for _ in range(3)]
        del freed  # what comes next lies somewhere else
        assert np.array_equal(depth(region), exact)
