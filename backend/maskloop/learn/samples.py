"""Submissions to samples: an image, its objects' masks and labels, and the part of the data it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import cv2
import numpy as np

from maskloop.learn.masks import DecodeRle, is_mask, mask_of, why_no_masks
from maskloop.learn.room import HELD, NEWEST, OLDER, Room
from maskloop.ledger import Submission
from maskloop.segment.prompt import Image, Mask

TRAINING_SIDE = 1024
"""Pixels; a larger image is learned from at this size (longer side)."""

MOST_OBJECTS = 40
"""Objects of one image that are learned from; the largest image would otherwise outvote all others."""

HOLDOUT_SHARE = 0.25
HOLDOUT_MOST = HELD
HOLDOUT_LEAST = 5
"""Images that are held out of a small project, but a third of it at most: fewer decide nothing."""

CROWDED = (
    f"there are more images than one training looks at: of those not held out the newest {NEWEST}, and {OLDER} others"
)

TRAIN, HOLDOUT = "train", "holdout"

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
    ``also`` are other names of the same pixels: a hash of them, and those of other files.
    """

    content: str
    task: int
    image: str
    pixels: Image = field(repr=False)
    targets: tuple[Target, ...] = ()
    also: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        return self.also | {self.content}


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
    submissions: Iterable[Submission],
    load: LoadImage,
    decode: DecodeRle,
    labels: frozenset[str] | None,
    known: Mapping[str, str] | None = None,
) -> Collected:
    """Samples from submissions, one for each different picture, ordered by content hash.

    Only accepted masks with a label count. ``labels`` are those of the labeling config as it is now, None if
    it is not known; ``known`` the parts of earlier runs. Of many pictures those that :class:`Room` admits are kept.
    Nothing a submission contains makes this fail: what cannot be used is left out with a reason.
    """
    left_out: list[LeftOut] = []
    forms: list[tuple[int, str]] = []
    images: dict[str, Sample] = {}
    crowded: set[str] = set()
    seen: dict[str, str] = {}
    # Ground truth first, then the newest: of two masks of one object the first one here is kept.
    ordered = sorted(submissions, key=lambda s: (s.ground_truth, s.updated_at), reverse=True)
    room = Room(max((s.annotation for s in ordered), default=0))
    for submission in ordered:
        forms.append((submission.annotation, submission.updated_at))
        if submission.cancelled:
            left_out.append(LeftOut(submission.annotation, None, "skipped by the annotator"))
            continue
        if not any(is_mask(region) for region in submission.regions):
            left_out.append(LeftOut(submission.annotation, None, why_no_masks(submission.regions)))
            continue
        try:
            pixels, content = load(submission.image, submission.task)
        except ValueError as error:
            left_out.append(LeftOut(submission.annotation, None, f"its image cannot be read: {error}"))
            continue
        if content in seen:
            name = seen[content]
        else:
            small = shrink(pixels)
            name = seen[content] = _name_of(small)
            if name in images:
                images[name] = replace(images[name], also=images[name].also | {content})
            elif name not in crowded:
                sample = Sample(content, submission.task, submission.image, small, (), frozenset({name}))
                admission = room.admit(name, part_of(sample, known or {}) == HOLDOUT)
                if admission.leaves is not None:
                    crowded.add(admission.leaves)
                    left = images.pop(admission.leaves)
                    left_out += [LeftOut(id, None, CROWDED) for id in sorted({t.annotation for t in left.targets})]
                if admission.admitted:
                    images[name] = sample
                else:
                    crowded.add(name)
        if name in crowded:
            left_out.append(LeftOut(submission.annotation, None, CROWDED))
            continue
        targets = _targets(submission, _size(pixels), images[name], decode, labels, left_out)
        images[name] = replace(images[name], targets=targets)
    samples = sorted((sample for sample in images.values() if sample.targets), key=lambda sample: sample.content)
    return Collected(tuple(samples), tuple(left_out), tuple(sorted(forms)))


def _targets(
    submission: Submission,
    full: tuple[int, int],
    sample: Sample,
    decode: DecodeRle,
    labels: frozenset[str] | None,
    left_out: list[LeftOut],
) -> tuple[Target, ...]:
    """The targets of a sample and those of one more submission; what is left out is added to ``left_out``."""
    targets, size = list(sample.targets), _size(sample.pixels)
    for region in submission.regions:
        try:
            mask = mask_of(region, full, size, decode)
        except (ValueError, MemoryError) as error:
            left_out.append(LeftOut(submission.annotation, region.id, str(error)))
            continue
        target = Target(submission.annotation, region.id, region.label, size, np.packbits(mask).tobytes())
        if labels is not None and target.label not in labels:
            reason = f"label {target.label!r} is no longer in the labeling config: learned for clicks only"
            left_out.append(LeftOut(submission.annotation, region.id, reason))
            target = replace(target, label=None)
        if _double(target, targets):
            left_out.append(LeftOut(submission.annotation, region.id, "the same object as in a newer submission"))
        elif len(targets) >= MOST_OBJECTS:
            reason = f"the image already has {MOST_OBJECTS} objects"
            left_out.append(LeftOut(submission.annotation, region.id, reason))
        else:
            targets.append(target)
    return tuple(targets)


def part_of(sample: Sample, known: Mapping[str, str]) -> str | None:
    """The part that a picture has belonged to, under whatever name; trained on once is trained on. None if new."""
    found = {known[name] for name in sample.names if name in known}
    return TRAIN if TRAIN in found else HOLDOUT if found else None


def split(samples: Sequence[Sample], known: Mapping[str, str]) -> dict[str, str]:
    """Which part every picture belongs to, by all its names (the content hash is one): TRAIN or HOLDOUT.

    What is ``known`` from earlier runs never changes: the hold-out only grows, and an image that was trained
    on never enters it. Of the new images, in the order of their hashes (so by chance), those whose labels the
    hold-out lacks go there first, until a quarter of all images is held out (of a small project a third, but at
    most 5).
    """
    parts = {sample.content: part for sample in samples if (part := part_of(sample, known)) is not None}
    fresh = [sample for sample in samples if sample.content not in parts]
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
    return {name: parts.get(sample.content, TRAIN) for sample in samples for name in sample.names}


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


def _name_of(pixels: Image) -> str:
    """What two files of the same picture have in common."""
    return hashlib.sha256(f"{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


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
