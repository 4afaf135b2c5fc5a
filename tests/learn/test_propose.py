from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskloop.learn import propose
from maskloop.learn.propose import Proposer, tune
from maskloop.learn.samples import Sample, Target
from maskloop.learn.standing import Standing
from maskloop.segment.catalog import Catalog
from maskloop.segment.prompt import Mask
from maskloop.segment.segmenter import Embedding, Segmenter
from maskloop.settings import Settings

SIZE = (96, 128)


def disc(x: float, y: float, radius: float) -> Mask:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def picture(seed: int, label: str | None = "Disc", labelled: int = 3) -> Sample:
    """Three bright discs, of which the first ``labelled`` are submitted."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(80, 12, (*SIZE, 3))
    targets = []
    for number, middle in enumerate((22, 64, 106)):
        mask = disc(middle + rng.integers(-4, 5), rng.integers(30, 66), rng.integers(9, 14))
        pixels[mask] += 90
        if number < labelled:
            targets.append(Target(seed, f"r{number}", label, SIZE, np.packbits(mask).tobytes()))
    return Sample(f"{seed:04d}", seed, "x.png", np.clip(pixels, 0, 255).astype(np.uint8), tuple(targets))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Catalog(Settings().models_dir).load("watershed")


def fitted(segmenter: Segmenter, samples: list[Sample], held: list[Sample]) -> tuple[Proposer, dict[str, Standing]]:
    cache: dict[str, Embedding] = {}

    def embed(sample: Sample) -> Embedding:
        if sample.content not in cache:
            cache[sample.content] = segmenter.encode(sample.pixels)
        return cache[sample.content]

    proposer = propose.fit(samples, segmenter, embed, 0, lambda progress: None)
    return proposer, tune(proposer, held, samples, segmenter, embed, lambda progress: None)


def test_objects_are_found_without_a_prompt_and_the_label_goes_live(segmenter: Segmenter, tmp_path: Path) -> None:
    proposer, standing = fitted(segmenter, [picture(k) for k in range(6)], [picture(k) for k in range(20, 24)])
    assert standing["Disc"].live
    assert standing["Disc"].recall >= 0.8
    proposer.save(tmp_path, standing)
    loaded = propose.load(tmp_path)
    assert propose.standing(tmp_path) == standing
    fresh = picture(50)
    pauses: list[None] = []
    found = loaded.propose(fresh.pixels, segmenter.encode(fresh.pixels), segmenter, pause=lambda: pauses.append(None))
    assert len(pauses) >= len(found) >= 3, "clicks can pass after each mask"
    for target in fresh.targets:
        truth = target.mask
        assert max((p.mask & truth).sum() / (p.mask | truth).sum() for p in found) > 0.7
    assert all(p.label == "Disc" and 0 <= p.score <= 1 for p in found)


def test_where_people_label_some_objects_only_the_others_are_not_held_against_it(segmenter: Segmenter) -> None:
    part = [picture(k, labelled=1) for k in range(8)]
    _, standing = fitted(segmenter, part, [picture(k, labelled=1) for k in range(20, 28)])
    assert standing["Disc"].live
    assert "labelled in part" in standing["Disc"].why


def test_a_label_that_cannot_be_told_from_the_ground_stays_silent(segmenter: Segmenter, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def nonsense(seed: int) -> Sample:
        sample = picture(seed, labelled=0)
        masks = [disc(rng.integers(12, 116), rng.integers(12, 84), rng.integers(5, 12)) for _ in range(2)]
        targets = tuple(Target(seed, f"r{k}", "Odd", SIZE, np.packbits(m).tobytes()) for k, m in enumerate(masks))
        return Sample(sample.content, seed, "x.png", sample.pixels, targets)

    proposer, standing = fitted(segmenter, [nonsense(k) for k in range(5)], [nonsense(k) for k in range(20, 24)])
    assert not standing["Odd"].live
    proposer.save(tmp_path, standing)
    fresh = picture(50)
    assert propose.load(tmp_path).propose(fresh.pixels, segmenter.encode(fresh.pixels), segmenter) == []


def test_without_labels_there_is_nothing_to_propose(segmenter: Segmenter, tmp_path: Path) -> None:
    proposer, standing = fitted(segmenter, [picture(k, label=None) for k in range(2)], [])
    assert standing == {}
    proposer.save(tmp_path, standing)
    assert propose.load(tmp_path).head is None
    assert propose.load(None).head is None
    assert propose.standing(tmp_path / "nowhere") == {}


def test_a_hold_out_without_the_label_keeps_it_silent(segmenter: Segmenter) -> None:
    _, standing = fitted(segmenter, [picture(k) for k in range(3)], [picture(20, label="Other")])
    assert not standing["Disc"].live
    assert "are needed" in standing["Disc"].why
