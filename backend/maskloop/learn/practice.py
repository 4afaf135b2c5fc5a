"""Clicks for training: a batch of views is corrected as an annotator would, each in its own way (RITM's protocol)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskloop.learn.base.augment import damaged, misjudged
from maskloop.learn.views import SIDE, View
from maskloop.segment.clicknet_decoder import PromptMaps
from maskloop.segment.prompt import Mask

MOST_CLICKS = 8

Decode: TypeAlias = Callable[[dict[str, Tensor], PromptMaps], tuple[Tensor, Tensor]]
"""Features and prompts to the logits of masks and of their predicted IoUs, as a decoder does."""


@dataclass
class Exercise:
    """Views that are clicked on together. Points are view pixels, (column, row, 1 positive / 0 negative)."""

    features: dict[str, Tensor]
    truth: Tensor
    points: list[list[tuple[float, float, float]]]
    box: Tensor
    previous: Tensor

    @property
    def ambiguous(self) -> Tensor:
        """Where one click and nothing else has been given: it can mean a part or the whole. B bool."""
        more = (self.box.amax((1, 2, 3)) > 0) | (self.previous.amax((1, 2, 3)) > 0.5)
        return torch.tensor([len(points) == 1 for points in self.points], device=more.device) & ~more

    def prompts(self) -> PromptMaps:
        padded = [points + [(0.0, 0.0, -1.0)] * (MOST_CLICKS + 1 - len(points)) for points in self.points]
        longest = max(len(points) for points in self.points) or 1
        where = torch.tensor(padded, device=self.box.device)[:, :longest]
        scribbles = torch.zeros(len(padded), 2, SIDE, SIDE, device=self.box.device)
        return PromptMaps(where, self.box, scribbles, self.previous)


def begin(views: Sequence[View], rng: np.random.Generator, boxes: float = 0.2) -> Exercise:
    """A batch of views with nothing given but, for a share of them, a box. The first click is still to come."""
    truth = torch.from_numpy(np.stack([view.mask for view in views])).float()[:, None]
    box = torch.zeros_like(truth)
    for k, view in enumerate(views):
        if rng.random() < boxes:
            rows, columns = np.flatnonzero(view.mask.any(axis=1)), np.flatnonzero(view.mask.any(axis=0))
            pad = rng.integers(0, 1 + max(2, (rows[-1] - rows[0]) // 20), 4)
            top, bottom = max(rows[0] - pad[0], 0), rows[-1] + 1 + pad[1]
            left, right = max(columns[0] - pad[2], 0), columns[-1] + 1 + pad[3]
            box[k, 0, top:bottom, left:right] = 1.0
    features = {name: _stacked([view.features[name] for view in views]) for name in views[0].features}
    device = next(iter(features.values())).device
    return Exercise(features, truth.to(device), [[] for _ in views], box.to(device), torch.zeros_like(truth).to(device))


def _stacked(maps: Sequence[Tensor]) -> Tensor:
    # With the channels last a step takes a fifth less time.
    return torch.stack(list(maps)).float().contiguous(memory_format=torch.channels_last)


def begin_wrong(views: Sequence[View], rng: np.random.Generator) -> Exercise:
    """A batch in the middle of being corrected: a few clicks were given and the mask is wrong all the same.

    For half of the views the object itself is the wrong mask and something near it is wanted: a decoder that knows
    its objects by heart would not need the clicks otherwise, and grow deaf to them.
    """
    exercise = begin(views, rng, boxes=0.0)
    for k, view in enumerate(views):
        wanted = view.mask
        wrong = misjudged(rng, wanted) if rng.random() < 0.3 else damaged(rng, wanted)
        if (wrong == wanted).all() or not wrong.any():
            continue  # to be clicked on from nothing
        if rng.random() < 0.5:
            wanted, wrong = wrong, wanted
            exercise.truth[k, 0] = torch.from_numpy(wanted).float()
        exercise.previous[k, 0] = torch.from_numpy(np.where(wrong, rng.uniform(0.7, 1), rng.uniform(0, 0.3)))
        for sign, places in ((1.0, wanted & wrong), (0.0, ~wanted & ~wrong)):
            rows, columns = np.nonzero(places)
            for pick in rng.integers(len(rows), size=int(rng.integers(0, 4))) if len(rows) else ():
                exercise.points[k].append((float(columns[pick]), float(rows[pick]), sign))
    return exercise


def click(exercise: Exercise, rng: np.random.Generator | None) -> None:
    """The next click of every view, in its largest error: at the centre, or (with ``rng``) near it half of the time."""
    truth = exercise.truth[:, 0].cpu().numpy() > 0.5
    now = exercise.previous[:, 0].cpu().numpy() > 0.5
    for k, points in enumerate(exercise.points):
        if not points and exercise.box[k].any():
            continue  # the box is the first prompt
        if len(points) <= MOST_CLICKS and (truth[k] != now[k]).any():
            points.append(error_click(now[k], truth[k], rng))


def error_click(mask: Mask, truth: Mask, rng: np.random.Generator | None) -> tuple[float, float, float]:
    """(column, row, sign) of a click in the larger of the largest missing and the largest excess part."""
    best: tuple[float, NDArray[np.float32], float] | None = None
    for error, sign in ((truth & ~mask, 1.0), (mask & ~truth, 0.0)):
        padded = np.pad(error, 1).astype(np.uint8)
        distance = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5), np.float32)[1:-1, 1:-1]
        depth = float(distance.max())
        if best is None or depth > best[0]:
            best = (depth, distance, sign)
    assert best is not None
    depth, distance, sign = best
    if rng is not None and rng.random() < 0.5:
        rows, columns = np.nonzero(distance > 0.4 * depth)
        k = int(rng.integers(len(rows)))
        return float(columns[k]), float(rows[k]), sign
    row, column = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(column), float(row), sign


def answer(decode: Decode, exercise: Exercise) -> tuple[Tensor, Tensor]:
    """Logits of the masks and of their predicted IoUs for the prompts so far; in half precision where that is fast."""
    device = exercise.truth.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda" or torch.cpu._is_avx512_bf16_supported()):
        logits, judged = decode(exercise.features, exercise.prompts())
    return logits.float(), judged.float()


def feed_back(exercise: Exercise, logits: Tensor, judged: Tensor) -> None:
    """The mask the decoder believes in most becomes the previous mask."""
    chosen = judged.argmax(dim=1)
    exercise.previous = logits[torch.arange(len(logits)), chosen].sigmoid()[:, None].detach()
