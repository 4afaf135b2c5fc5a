from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest

from maskloop.labelstudio import rle
from maskloop.learn import samples
from maskloop.learn.room import NEWEST, OLDER
from maskloop.learn.samples import HOLDOUT, TRAIN, Sample, Target, collect, part_of, split
from maskloop.ledger import Region, Submission
from maskloop.segment.prompt import Image, Mask

SIZE = (60, 80)


def disc(x: int, y: int, radius: int, size: tuple[int, int] = SIZE) -> Mask:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def region(mask: Mask, label: str | None = "Cell", name: str = "r") -> Region:
    return Region(name, "brushlabels", label, mask.shape[1], mask.shape[0], rle=rle.encode(mask))


def load(url: str, task: int) -> tuple[Image, str]:
    if "missing" in url:
        raise ValueError("HTTP 404")
    size = (4000, 3000) if "large" in url else SIZE
    return np.zeros((*size, 3), np.uint8), hashlib.sha256(url.encode()).hexdigest()


def decode(data: bytes, size: tuple[int, int]) -> Mask:
    return np.asarray(rle.decode(data, size) >= 128)


def submission(*regions: Region, annotation: int = 1, image: str = "a.png", at: str = "1", **more: bool) -> Submission:
    return Submission(1, 5, annotation, at, image, regions, **more)


def test_an_accepted_mask_becomes_a_target() -> None:
    mask = disc(40, 30, 12)
    collected = collect([submission(region(mask))], load, decode, frozenset({"Cell"}))
    (sample,) = collected.samples
    assert (sample.targets[0].mask == mask).all()
    assert sample.targets[0].label == "Cell"
    assert collected.left_out == ()
    assert collected.forms == ((1, "1"),)


def test_what_is_soft_at_the_edge_is_cut_at_half() -> None:
    soft = np.zeros(SIZE, np.uint8)
    soft[10:30, 10:30] = 255
    soft[30:34, 10:30] = 90
    assert decode(_encode_alpha(soft), SIZE).sum() == 400


def _encode_alpha(alpha: np.ndarray) -> bytes:
    from label_studio_sdk.converter.brush import encode_rle

    return bytes(encode_rle(np.repeat(alpha.reshape(-1), 4)))


RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (region(disc(40, 30, 12), label=None), "no label"),
        (region(np.zeros(SIZE, bool)), "empty"),
        (region(disc(40, 30, 1)), "5 pixels"),
        (region(np.ones(SIZE, bool)), "whole image"),
        (region(RNG.random(SIZE) < 0.5), "noise"),
        (region(RNG.random(SIZE) < 0.03), "noise"),
        (region(disc(5, 5, 4, (10, 12))), "drawn on an image of 12 x 10"),
        (Region("r", "brushlabels", "Cell", 80, 60, rle=b"\x00\x01"), "truncated|RLE|bytes"),
        (Region("r", "brushlabels", "Cell", 80, 60, rle=b"\xff\xff\xff\xff" + bytes(6)), "RLE"),
        (Region("r", "keypointlabels", "Cell", 80, 60), "not a mask"),
        (Region("r", "brushlabels", "Cell", 80, 60), "not bytes"),
        (Region("r", "brushlabels", "Cell", 0, 0), "MASKLOOP_MAX_IMAGE_MEGAPIXELS"),
        (Region("r", "polygonlabels", "Cell", 80, 60), "three corners"),
    ],
)
def test_an_odd_region_is_left_out_with_its_reason(bad: Region, reason: str) -> None:
    good = region(disc(40, 30, 12), name="good")
    collected = collect([submission(good, bad)], load, decode, None)
    assert [t.region for t in collected.samples[0].targets] == ["good"]
    (left,) = collected.left_out
    assert re.search(reason, left.reason), left.reason


def test_odd_submissions_are_left_out_whole() -> None:
    collected = collect(
        [
            submission(annotation=1, cancelled=True),
            submission(annotation=2),
            submission(Region("k", "keypointlabels", "Cell", 80, 60), annotation=3),
            submission(region(disc(40, 30, 12)), annotation=4, image="missing.png"),
            submission(Region("h", "brushlabels", "Cell", 0, 0), annotation=5),
            submission(Region("b", "brushlabels", "Cell", 80, 60), annotation=6),
        ],
        load,
        decode,
        None,
    )
    assert collected.samples == ()
    reasons = {left.annotation: left.reason for left in collected.left_out}
    assert "skipped" in reasons[1]
    assert "nothing" in reasons[2]
    assert "not accepted" in reasons[3]
    assert "MASKLOOP_MAX_IMAGE_MEGAPIXELS" in reasons[5]
    assert "not bytes" in reasons[6]
    assert "404" in reasons[4]
    assert len(collected.forms) == 6


def test_a_thin_crack_is_not_noise() -> None:
    mask = np.zeros(SIZE, bool)
    for x in range(5, 75):
        mask[20 + (x * 7 % 13) // 4, x] = True
    assert collect([submission(region(mask))], load, decode, None).samples


def test_a_renamed_label_teaches_clicks_only() -> None:
    collected = collect([submission(region(disc(40, 30, 12), label="Zelle"))], load, decode, frozenset({"Cell"}))
    assert collected.samples[0].targets[0].label is None
    assert "no longer in the labeling config" in collected.left_out[0].reason


def test_of_two_annotators_on_one_object_the_ground_truth_counts() -> None:
    first = submission(region(disc(40, 30, 12), name="old"), annotation=1, at="1", ground_truth=True)
    second = submission(
        region(disc(41, 30, 12), name="new"), region(disc(10, 10, 6), name="more"), annotation=2, at="2"
    )
    collected = collect([first, second], load, decode, None)
    assert {t.region for t in collected.samples[0].targets} == {"old", "more"}


def test_two_tasks_with_the_same_image_are_one_sample() -> None:
    def same(url: str, task: int) -> tuple[Image, str]:
        return load("a.png", task)

    collected = collect(
        [
            submission(region(disc(40, 30, 12)), annotation=1, image="a.png"),
            submission(region(disc(12, 12, 8)), annotation=2, image="copy.png"),
        ],
        same,
        decode,
        None,
    )
    assert [len(s.targets) for s in collected.samples] == [2]


def test_two_files_of_the_same_pixels_are_one_sample_on_one_side() -> None:
    def picture(url: str, task: int) -> tuple[Image, str]:
        shade = 200 if "other" in url else int(url.split("/")[0])
        return np.full((*SIZE, 3), shade, np.uint8), hashlib.sha256(url.encode()).hexdigest()

    def submitted(name: str, annotation: int) -> Submission:
        return submission(region(disc(10 + 3 * (annotation % 9), 30, 8)), annotation=annotation, image=name)

    first = collect([submitted(f"{k}/a.png", k) for k in range(1, 5)], picture, decode, None).samples
    known = split(first, {})
    files = {hashlib.sha256(f"{k}/{file}.png".encode()).hexdigest() for k in range(1, 5) for file in "ab"}
    copies = [submitted(f"{k}/b.png", 4 + k) for k in range(1, 5)]
    originals = [submitted(f"{k}/a.png", k) for k in range(1, 5)]
    both = collect([*originals, *copies], picture, decode, None, known).samples
    assert len(both) == 4
    parts = split(both, known)
    assert known.items() <= parts.items(), "what is recorded by the hash of a file stays valid"
    assert files <= set(parts)
    alone = collect(copies, picture, decode, None, known).samples
    again = split(alone, known)
    sides = {sample.pixels[0, 0, 0]: part_of(sample, known) for sample in first}
    assert {sample.pixels[0, 0, 0]: again[sample.content] for sample in alone} == sides, "also when the first is gone"


def test_a_picture_that_was_trained_on_as_another_file_is_not_held_out() -> None:
    (sample,) = _samples(1)
    copied = replace(sample, also=frozenset({"pixels", "copy"}))
    assert split([copied], {"0000": HOLDOUT, "copy": TRAIN}) == dict.fromkeys(("0000", "pixels", "copy"), TRAIN)
    assert split([copied], {"0000": HOLDOUT}) == dict.fromkeys(("0000", "pixels", "copy"), HOLDOUT)


def test_of_many_images_the_hold_out_the_newest_and_some_others_are_learned_from() -> None:
    count = NEWEST + OLDER + 60

    def shaded(url: str, task: int) -> tuple[Image, str]:
        return np.full((*SIZE, 3), int(url), np.uint8), url

    submissions = [
        submission(region(disc(40, 30, 12)), annotation=k, image=f"{k}", at=f"{k:04d}") for k in range(count)
    ]
    known = {f"{k}": HOLDOUT for k in range(5)}
    collected = collect(submissions, shaded, decode, None, known)
    kept = {int(sample.content) for sample in collected.samples}
    assert set(range(5)) | set(range(count - NEWEST, count)) < kept
    assert len(kept) == 5 + NEWEST + OLDER
    assert {left.annotation for left in collected.left_out} == set(range(count)) - kept
    assert all("more images than one training looks at" in left.reason for left in collected.left_out)
    assert len(collected.forms) == count
    more = collect([*submissions, submission(annotation=count, at="9999")], shaded, decode, None, known)
    assert kept != {int(sample.content) for sample in more.samples}, "the next training draws others"


def test_a_huge_image_is_learned_from_at_a_bounded_size() -> None:
    mask = disc(1500, 2000, 700, (4000, 3000))
    (sample,) = collect([submission(region(mask), image="large.png")], load, decode, None).samples
    assert max(sample.pixels.shape) == samples.TRAINING_SIDE
    scale = (samples.TRAINING_SIDE / 4000) ** 2
    assert sample.targets[0].mask.sum() == pytest.approx(mask.sum() * scale, rel=0.01)


def _samples(count: int, label: str = "Cell", start: int = 0) -> list[Sample]:
    target = Target(1, "r", label, SIZE, np.packbits(disc(40, 30, 12)).tobytes())
    pixels = np.zeros((*SIZE, 3), np.uint8)
    return [Sample(f"{k:04d}", k, "a", pixels, (target,)) for k in range(start, start + count)]


@pytest.mark.parametrize(("count", "held"), [(1, 0), (3, 1), (6, 2), (9, 3), (15, 5), (20, 5), (40, 10), (400, 60)])
def test_a_quarter_is_held_out_and_more_of_a_few(count: int, held: int) -> None:
    assert sum(part == HOLDOUT for part in split(_samples(count), {}).values()) == held


def test_the_hold_out_grows_and_never_leaks() -> None:
    known: dict[str, str] = {}
    for count in (5, 9, 20, 37, 80):
        parts = split(_samples(count), known)
        assert set(parts) == {s.content for s in _samples(count)}
        assert all(parts[content] == part for content, part in known.items())
        known = parts
    assert sum(part == HOLDOUT for part in known.values()) == 20


def test_a_label_that_the_hold_out_lacks_goes_there_first() -> None:
    parts = split([*_samples(10), *_samples(2, "Rare", 100)], {})
    assert HOLDOUT in (parts["0100"], parts["0101"])
    assert TRAIN in (parts["0100"], parts["0101"])
