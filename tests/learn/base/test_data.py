from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from maskloop.learn.base.augment import brushed, damaged, loose_box, photographed, scattered
from maskloop.learn.base.collage import pasted
from maskloop.learn.base.data import Samples, framed
from tests.learn.base.conftest import write


@pytest.fixture(scope="module")
def samples(training_data: Path) -> Samples:
    return Samples(training_data, 4, 97)


def test_a_sample_is_decided_by_its_number(samples: Samples, training_data: Path) -> None:
    samples.sample(3)
    again, fresh = samples.sample(7), Samples(training_data, 4, 97).sample(7)
    assert np.array_equal(again.pixels, fresh.pixels)
    assert np.array_equal(again.truth, fresh.truth)
    assert again.points == fresh.points


def test_every_sample_has_an_object_and_a_prompt(samples: Samples) -> None:
    kinds: Counter[str] = Counter()
    for number in range(120):
        sample = samples.sample(number)
        assert sample.pixels.shape == (97, 97, 3)
        assert set(np.unique(sample.truth)) <= {0, 1}
        assert sample.truth.any()
        kinds["points"] += bool(sample.points)
        kinds["box"] += bool(sample.box.any())
        kinds["scribble"] += bool(sample.scribbles.any())
        kinds["previous"] += bool(sample.previous.any())
        assert sample.points or sample.box.any() or sample.scribbles.any() or sample.previous.any()
        if not sample.box.any() and not sample.previous.any():
            assert all(bool(sample.truth[y, x]) == bool(sign) for x, y, sign in sample.points)
    assert all(kinds[kind] >= 2 for kind in ("points", "box", "scribble", "previous"))


def test_only_free_rows_are_read(samples: Samples) -> None:
    names = {path.name for path, _ in samples.photos["nuclei"]}
    assert names == {"dsb_0.jpg", "dsb_1.jpg"}


def test_outlines_are_objects_of_their_photographs(training_data: Path, tmp_path: Path) -> None:
    assert not Samples(training_data, 1, 65).found
    data = tmp_path / "data"
    shutil.copytree(training_data, data)
    ring = "20 30 60 30 60 70 20 70;30 40 50 40 50 60 30 60"
    write(data / "permissive/found.csv", [{"image": "backgrounds/0.jpg", "outline": ring}])
    samples = Samples(data, 1, 65)
    drawn = [samples._object(np.random.default_rng(seed), "coco") for seed in range(20)]
    outlined = [mask for photo, mask in drawn if photo.shape == (90, 140, 3)]
    assert 4 <= len(outlined) <= 16, "some of the photographs are those of the outlines, and some are not"
    assert set(np.unique(outlined[0])) == {0, 255}
    assert outlined[0][30:71, 20:61].sum() == outlined[0].sum()
    assert outlined[0][35, 40] == 255
    assert outlined[0][50, 40] == 0
    assert all(samples._object(np.random.default_rng(seed), "cloth")[0].shape != (90, 140, 3) for seed in range(9))


def test_a_missing_picture_is_named(training_data: Path) -> None:
    broken = Samples(training_data, 1, 65)
    broken.cutouts = [training_data / "nowhere.png"]
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        broken._image(broken.cutouts[0], alpha=True)


def disc(size: int = 120) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - 60) ** 2 + (columns - 60) ** 2 < 30**2


def test_a_framed_object_fits_its_picture() -> None:
    mask = disc()
    image = np.where(mask[..., None], 220, 20).astype(np.uint8).repeat(3, 2)
    for seed in range(10):
        view = framed(np.random.default_rng(seed), image, mask, 65)
        if view is not None:
            pixels, truth = view
            assert pixels[truth].mean() > 180
            assert pixels[~truth].mean() < 60


def test_damage_leaves_something_to_correct_and_something_to_keep() -> None:
    mask = disc()
    overlaps = []
    for seed in range(20):
        worse = damaged(np.random.default_rng(seed), mask)
        overlaps.append((worse & mask).sum() / (worse | mask).sum())
    assert min(overlaps) > 0.15
    assert np.mean(overlaps) < 0.97


def test_boxes_strokes_and_clicks_lie_on_the_object() -> None:
    mask = disc()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        box = loose_box(rng, mask)
        assert box is not None
        assert (box.astype(bool) & mask).sum() > 0.6 * mask.sum()
        stroke = brushed(rng, mask)
        assert stroke.any()
        assert not (stroke & ~mask).any()
        assert all(mask[y, x] for x, y in scattered(rng, mask, 5))
    assert loose_box(np.random.default_rng(0), np.zeros((9, 9), bool)) is None
    assert scattered(np.random.default_rng(0), np.zeros((9, 9), bool), 3) == []


def test_light_changes_pixels_not_the_picture() -> None:
    image = np.where(disc()[..., None], 200, 60).astype(np.uint8).repeat(3, 2)
    for seed in range(20):
        seen = photographed(np.random.default_rng(seed), image)
        assert seen.shape == image.shape
        assert np.abs(np.corrcoef(seen.mean(2).ravel(), image.mean(2).ravel())[0, 1]) > 0.9


def test_what_is_pasted_shows_where_its_mask_says() -> None:
    canvas = np.zeros((100, 100, 3), np.float32)
    thing = np.full((40, 40, 4), 255, np.float32)
    mask = pasted(np.random.default_rng(2), canvas, thing)
    assert canvas[mask].mean() > 60
    assert canvas[~mask].mean() < 10
