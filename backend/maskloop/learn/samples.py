"""Submissions to samples: an image, its objects' masks and labels, and the part of the data it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import cv2
import numpy as np

from maskloop.ledger import Region, Submission
from maskloop.segment.prompt import Image, Mask

TRAINING_SIDE = 1024
"""Pixels; a larger image is learned from at this size (longer side)."""

MOST_OBJECTS = 40
"""Objects of one image that are learned from; the largest image would otherwise outvote all others."""

SMALLEST_AREA = 12
"""Pixels; a smaller mask is a slip of the hand."""

HOLDOUT_SHARE = 0.25
HOLDOUT_MOST = 60
HOLDOUT_LEAST = 5
"""Images that are held out of a small project, but a third of it at most: fewer decide nothing."""

TRAIN, HOLDOUT = "train", "holdout"

DecodeRle: TypeAlias = Callable[[bytes, tuple[int, int]], Mask]
"""Brush RLE and (height, width) to a mask; raises ValueError."""

LoadImage: TypeAlias = Callable[[str, int], tuple[Image, str]]
"""The upright pixels and the content hash of a task's image, by URL and task id; raises ValueError."""


@dataclass(frozen=True, eq=False)
class Target:
    """One object: its mask (bits packed row by row) at the sample's size, and its label.

    ``label`` is None when the labeling config no longer has it: such a mask still teaches clicks.
    """

    annotation: int
    region: str
    label: str | None
    size: tuple[int, int]
    bits: bytes

    @property
    def mask(self) -> Mask:
        height, width = self.size
        flat = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=height * width)
        return flat.reshape(height, width).astype(bool)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.bits + f"{self.size}".encode()).hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and the objects that were submitted on it.

    ``content`` is the hash of the image file; ``pixels`` the image, at most TRAINING_SIDE on its longer side.
    """

    content: str
    task: int
    image: str
    pixels: Image = field(repr=False)
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """Something that was not learned from, and why."""

    annotation: int
    region: str | None
    reason: str


@dataclass(frozen=True)
class Collected:
    """What there is to learn from; ``forms`` names every submission that was looked at."""

    samples: tuple[Sample, ...]
    left_out: tuple[LeftOut, ...]
    forms: tuple[tuple[int, str], ...]


def collect(
    submissions: Iterable[Submission], load: LoadImage, decode: DecodeRle, labels: frozenset[str] | None
) -> Collected:
    """Samples from submissions, one for each different image, ordered by content hash.

    Only accepted masks with a label count. ``labels`` are those of the labeling config as it is now, None if
    it is not known. Nothing a submission contains makes this fail: what cannot be used is left out with a reason.
    """
    left_out: list[LeftOut] = []
    forms: list[tuple[int, str]] = []
    images: dict[str, Sample] = {}
    # Ground truth first, then the newest: of two masks of one object the first one here is kept.
    for submission in sorted(submissions, key=lambda s: (s.ground_truth, s.updated_at), reverse=True):
        forms.append((submission.annotation, submission.updated_at))
        if submission.cancelled:
            left_out.append(LeftOut(submission.annotation, None, "skipped by the annotator"))
            continue
        if not any(_is_mask(region) for region in submission.regions):
            left_out.append(LeftOut(submission.annotation, None, _why_no_mask(submission.regions)))
            continue
        try:
            pixels, content = load(submission.image, submission.task)
        except ValueError as error:
            left_out.append(LeftOut(submission.annotation, None, f"its image cannot be read: {error}"))
            continue
        sample = images.get(content) or Sample(content, submission.task, submission.image, shrink(pixels))
        targets = list(sample.targets)
        for region in submission.regions:
            try:
                target = _target(submission.annotation, region, _size(pixels), _size(sample.pixels), decode)
            except (ValueError, MemoryError) as error:
                left_out.append(LeftOut(submission.annotation, region.id, str(error)))
                continue
            if labels is not None and target.label not in labels:
                reason = f"label {target.label!r} is no longer in the labeling config: learned for clicks only"
                left_out.append(LeftOut(submission.annotation, region.id, reason))
                target = Target(target.annotation, target.region, None, target.size, target.bits)
            if _double(target, targets):
                left_out.append(LeftOut(submission.annotation, region.id, "the same object as in a newer submission"))
            elif len(targets) >= MOST_OBJECTS:
                reason = f"the image already has {MOST_OBJECTS} objects"
                left_out.append(LeftOut(submission.annotation, region.id, reason))
            else:
                targets.append(target)
        images[content] = Sample(content, sample.task, sample.image, sample.pixels, tuple(targets))
    samples = tuple(images[content] for content in sorted(images) if images[content].targets)
    return Collected(samples, tuple(left_out), tuple(sorted(forms)))


def split(samples: Sequence[Sample], known: Mapping[str, str]) -> dict[str, str]:
    """Which part every image belongs to, by content hash: TRAIN or HOLDOUT.

    What is ``known`` from earlier runs never changes: the hold-out only grows, and an image that was trained
    on never enters it. Of the new images, in the order of their hashes (so by chance), those whose labels the
    hold-out lacks go there first, until a quarter of all images is held out (of a small project a third, but at
    most 5).
    """
    parts = {sample.content: known[sample.content] for sample in samples if sample.content in known}
    fresh = [sample for sample in samples if sample.content not in known]
    wanted = min(HOLDOUT_MOST, max(round(HOLDOUT_SHARE * len(samples)), min(HOLDOUT_LEAST, len(samples) // 3)))
    missing = wanted - sum(part == HOLDOUT for part in parts.values())
    held = {t.label for sample in samples if parts.get(sample.content) == HOLDOUT for t in sample.targets}
    while missing > 0 and fresh:
        new_label = [s for s in fresh if any(t.label not in held for t in s.targets)]
        chosen = (new_label or fresh)[0]
        fresh.remove(chosen)
        parts[chosen.content] = HOLDOUT
        held |= {target.label for target in chosen.targets}
        missing -= 1
    return {**parts, **{sample.content: TRAIN for sample in fresh}}


def shrink(pixels: Image) -> Image:
    """The image at most TRAINING_SIDE pixels on its longer side."""
    height, width = pixels.shape[:2]
    scale = TRAINING_SIDE / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(pixels)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _size(pixels: Image) -> tuple[int, int]:
    return int(pixels.shape[0]), int(pixels.shape[1])


def _is_mask(region: Region) -> bool:
    return (region.kind == "brushlabels" and region.rle is not None) or (
        region.kind == "polygonlabels" and region.points is not None
    )


def _why_no_mask(regions: Sequence[Region]) -> str:
    kinds = sorted({region.kind for region in regions})
    return f"no mask in it, only {', '.join(kinds)} (a suggestion that was not accepted?)" if kinds else "nothing in it"


def _target(
    annotation: int, region: Region, full: tuple[int, int], small: tuple[int, int], decode: DecodeRle
) -> Target:
    """The region as a target. Raises ValueError with why it cannot be one."""
    if not _is_mask(region):
        raise ValueError(f"{region.kind} is not a mask (a suggestion that was not accepted?)")
    if not region.label:
        raise ValueError("it has no label")
    if (region.height, region.width) != full:
        raise ValueError(
            f"it was drawn on an image of {region.width} x {region.height} pixels, which now has {full[1]} x {full[0]}"
        )
    if region.rle is not None:
        mask = decode(region.rle, full)
    else:
        canvas = np.zeros(full, np.uint8)
        cv2.fillPoly(canvas, [np.round(np.array(region.points)).astype(np.int32)], 1)
        mask = canvas.astype(bool)
    area = int(mask.sum())
    if area < SMALLEST_AREA:
        raise ValueError(f"its mask has {area} pixels" if area else "its mask is empty")
    if area > 0.98 * mask.size:
        raise ValueError("its mask covers the whole image")
    if _is_noise(mask):
        raise ValueError("its mask is noise, not an object")
    if full != small:
        shrunk = cv2.resize(mask.astype(np.uint8) * 255, (small[1], small[0]), interpolation=cv2.INTER_AREA)
        mask = np.asarray(shrunk >= 128)
        if int(mask.sum()) < SMALLEST_AREA:
            raise ValueError("its mask vanishes at the size that is trained on")
    return Target(annotation, region.id, region.label, small, np.packbits(mask).tobytes())


def _is_noise(mask: Mask) -> bool:
    """Whether a mask is speckle: it flips between object and background all over, or falls into crumbs."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    flips = np.count_nonzero(inside[:, 1:] != inside[:, :-1])
    if inside.size >= 400 and flips > 0.25 * inside.size:
        return True
    pieces = cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)[0] - 1
    return pieces > 50 and np.count_nonzero(inside) / pieces < 6


def _double(target: Target, others: Sequence[Target]) -> bool:
    mask: Mask | None = None
    for other in others:
        if other.annotation == target.annotation:
            continue
        mask = target.mask if mask is None else mask
        theirs = other.mask
        if np.count_nonzero(mask & theirs) >= 0.8 * np.count_nonzero(mask | theirs):
            return True
    return False
