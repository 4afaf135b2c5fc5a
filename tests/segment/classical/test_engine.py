from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskloop.segment.catalog import Catalog
from maskloop.segment.prompt import Box, Image, Mask, Point, Prompt, Scribble
from maskloop.segment.segmenter import Prediction, Segmenter
from maskloop.settings import default_models_dir

ENGINES = ("activecontour", "geodesic", "graphcut", "randomwalker", "regiongrowing", "watershed")


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Segmenter:
    return Catalog(default_models_dir()).load(request.param)


def disc(height: int = 180, width: int = 240, radius: int = 45) -> tuple[Image, Mask]:
    """A reddish disc on a greenish ground, both noisy."""
    rows, columns = np.mgrid[:height, :width]
    mask = (rows - height // 2) ** 2 + (columns - width // 2) ** 2 < radius**2
    image = np.where(mask[..., None], (190, 70, 60), (60, 120, 90)).astype(np.float64)
    noise = np.random.default_rng(0).normal(0, 6, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), mask


def iou(prediction: Prediction, truth: Mask) -> float:
    return float((prediction.mask & truth).sum() / (prediction.mask | truth).sum())


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt((Point(120, 90),)),
        Prompt((Point(120, 90), Point(20, 20, False))),
        Prompt(box=Box(70, 40, 170, 140)),
        Prompt((Point(110, 100),), box=Box(70, 40, 170, 140)),
        Prompt(scribbles=(Scribble(cv2.line(np.zeros((180, 240), np.uint8), (100, 80), (140, 100), 1, 5) > 0),)),
        Prompt(prior=cv2.circle(np.zeros((180, 240), np.uint8), (125, 94), 42, 1, -1) > 0),
    ],
    ids=["click", "two clicks", "box", "box and click", "scribble", "prior"],
)
def test_every_kind_of_prompt_finds_a_plain_disc(engine: Segmenter, prompt: Prompt) -> None:
    image, truth = disc()
    prediction = engine.decode(engine.encode(image), prompt)
    assert prediction.mask.shape == truth.shape
    assert prediction.mask.dtype == bool
    assert iou(prediction, truth) > 0.7
    assert 0 < prediction.score <= 1


def test_a_negative_click_takes_the_second_disc_away(engine: Segmenter) -> None:
    image = np.full((160, 320, 3), (60, 120, 90), np.uint8)
    cv2.circle(image, (90, 80), 40, (190, 70, 60), -1)
    cv2.circle(image, (230, 80), 40, (190, 70, 60), -1)
    embedding = engine.encode(image)
    clicks = (Point(90, 80), Point(230, 80, False))
    mask = engine.decode(embedding, Prompt(clicks)).mask
    assert mask[60:100, 70:110].mean() > 0.9
    assert mask[60:100, 210:250].mean() < 0.1
    both = engine.decode(embedding, Prompt((clicks[0], Point(230, 80)))).mask
    assert both[60:100, 210:250].mean() > 0.9


def test_a_click_corrects_the_mask_it_starts_from(engine: Segmenter) -> None:
    image, truth = disc()
    prior = truth.copy()
    prior[:, 120:] = False
    embedding = engine.encode(image)
    grown = engine.decode(embedding, Prompt((Point(145, 90),), prior=prior))
    assert iou(grown, truth) > 0.8
    spilled = truth | (np.arange(240) > 200)[None]
    cut = engine.decode(embedding, Prompt((Point(225, 90, False),), prior=spilled))
    assert cut.mask[90, 120]
    assert not cut.mask[80:100, 215:235].any()


def test_a_small_object_in_a_large_image_is_looked_at_closely(engine: Segmenter) -> None:
    image = np.full((1400, 2100, 3), (60, 120, 90), np.uint8)
    cv2.rectangle(image, (300, 300), (359, 399), (190, 70, 60), -1)
    truth = np.zeros((1400, 2100), bool)
    truth[300:400, 300:360] = True
    prediction = engine.decode(engine.encode(image), Prompt(box=Box(290, 285, 370, 410)))
    assert iou(prediction, truth) > 0.9


points = st.builds(Point, st.floats(0, 47, allow_nan=False), st.floats(0, 31, allow_nan=False), st.booleans())


@settings(max_examples=12, deadline=None)
@given(
    clicks=st.lists(points, max_size=6, unique_by=lambda p: (int(p.x), int(p.y))),
    boxed=st.booleans(),
    prior=st.booleans(),
)
def test_every_click_is_honoured_and_nothing_breaks(
    engine: Segmenter, clicks: list[Point], boxed: bool, prior: bool
) -> None:
    image = np.random.default_rng(1).integers(0, 256, (32, 48, 3), np.uint8)
    start = np.zeros((32, 48), bool)
    start[8:20, 10:30] = prior
    prompt = Prompt(tuple(clicks), Box(5, 5, 40, 25) if boxed else None, prior=start if prior else None)
    if prompt.empty:
        return
    prediction = engine.decode(engine.encode(image), prompt)
    assert prediction.mask.shape == (32, 48)
    assert 0 <= prediction.score <= 1
    for click in clicks:
        assert prediction.mask[int(click.y), int(click.x)] == click.positive


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 3)])
def test_tiny_and_flat_images(engine: Segmenter, size: tuple[int, int]) -> None:
    embedding = engine.encode(np.full((*size, 3), 100, np.uint8))
    for prompt in (Prompt((Point(0, 0),)), Prompt(box=Box(0, 0, size[1], size[0])), Prompt((Point(0, 0, False),))):
        assert engine.decode(embedding, prompt).mask.shape == size


def test_answers_depend_on_nothing_but_image_and_prompt(engine: Segmenter) -> None:
    image, _ = disc()
    other = engine.encode(255 - image)
    embedding, prompt = engine.encode(image), Prompt((Point(120, 90),))
    first = engine.decode(embedding, prompt)
    engine.decode(other, Prompt((Point(5, 5),)))
    again = engine.decode(embedding, prompt)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert first.score == again.score


def test_what_cannot_be_answered_is_refused(engine: Segmenter) -> None:
    image, _ = disc()
    embedding = engine.encode(image)
    with pytest.raises(ValueError, match="prompt is empty"):
        engine.decode(embedding, Prompt())
    with pytest.raises(ValueError, match="encoder"):
        engine.decode(type(embedding)(embedding.arrays, embedding.size, "other"), Prompt((Point(1, 1),)))


def test_the_engines_tested_are_all_there_are() -> None:
    folder = Path(__file__).parents[3] / "backend" / "maskloop" / "segment" / "classical"
    families = {path.stem for path in folder.glob("*.py") if "def load(" in path.read_text()}
    assert families == set(ENGINES)
