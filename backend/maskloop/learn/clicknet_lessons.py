"""clicknet's curriculum: views of the objects at many scales, which the encoder sees once."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from maskloop.learn import practice
from maskloop.learn.base.loss import click_loss, edge_band, hard_iou
from maskloop.learn.curriculum import Chosen, Curriculum, Report, Weights
from maskloop.learn.samples import Sample
from maskloop.learn.views import View, view_pool
from maskloop.segment.clicknet_decoder import Decoder
from maskloop.segment.clicknet_net import AHEAD, ClickNetwork, side_by_side

LEAST_VIEWS = 24
"""Views that are made however long it takes."""
CORRECTIONS = 0.4
"""Share of the lessons that begin with a wrong mask: a decoder that knows its objects well grows deaf to clicks."""
MANY_VIEWS = 480
"""Few objects are looked at more often, until there are so many views: the same few would be learned by heart."""
EXAM_VIEWS = 28
"""Validation objects; three clicks on each, several times, must not take the time that learning needs."""


class ClicknetLessons(Curriculum[Decoder, View]):
    """Views cut from the samples, turned and tinted, with the features of ``start``'s encoder."""

    def __init__(
        self, start: ClickNetwork, base: ClickNetwork, train: Sequence[Sample], validation: Sequence[Sample]
    ) -> None:
        super().__init__(start.learned or start.decoder, base.decoder, train, validation)
        self._encoder = start.encoder

    def prepare(self, per_object: int, seed: int, until: float, report: Report) -> None:
        objects = max(1, sum(len(sample.targets) for sample in self.train))
        per_object = max(per_object, -(-MANY_VIEWS // objects))
        wanted = per_object * objects
        for view in view_pool(self._encoder, self.train, per_object, seed, augment=True):
            self.pool.append(view)
            if len(self.pool) % 25 == 0:
                report(min(1.0, len(self.pool) / wanted), f"looked at {len(self.pool)} views")
            # Every object comes once before any comes twice: on a busy machine fewer views are enough.
            if len(self.pool) >= LEAST_VIEWS and time.monotonic() > until:
                break
        judged = max(1, sum(len(sample.targets) for sample in self.validation))
        more = -(-EXAM_VIEWS // judged) - 1
        self.exam += view_pool(self._encoder, self.validation, 1, seed + 1, augment=False, most=EXAM_VIEWS)
        self.exam += view_pool(self._encoder, self.validation, more, seed + 2, augment=True, most=EXAM_VIEWS - judged)

    def pupil(self, of: Decoder) -> Decoder:
        own = copy.deepcopy(of).train()
        return own.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def weights(self, of: Decoder) -> Weights:
        return dict(of.named_parameters())

    def lesson(self, pupil: Decoder, chosen: Chosen, rng: np.random.Generator) -> Tensor:
        views = [self.pool[k] for k in chosen]
        if rng.random() < CORRECTIONS:
            exercise, rounds = practice.begin_wrong(views, rng), 1
        else:
            exercise = practice.begin(views, rng)
            rounds = int(rng.choice([1, 2, 3, 4, 6], p=[0.4, 0.25, 0.15, 0.1, 0.1]))
        for _ in range(rounds - 1):
            practice.click(exercise, rng)
            with torch.no_grad():
                logits, judged = practice.answer(pupil, exercise)
            practice.feed_back(exercise, logits, judged)
        practice.click(exercise, rng)
        logits, judged = practice.answer(pupil, exercise)
        valid = torch.ones_like(exercise.truth)
        band = edge_band(exercise.truth, valid)
        loss: Tensor = click_loss(logits, judged, exercise.truth, valid, band, exercise.ambiguous)[0]
        return loss

    def reminder(self, pupil: Decoder, frozen: Decoder, chosen: Chosen, rng: np.random.Generator) -> Tensor:
        views = [self.pool[k] for k in chosen]
        exercise = practice.begin(views, rng, boxes=0.0)
        for k, view in enumerate(views):
            rows, columns = np.nonzero(~view.mask)
            for _ in range(int(rng.integers(1, 3))):
                pick = int(rng.integers(len(rows)))
                exercise.points[k].append((float(columns[pick]), float(rows[pick]), 1.0))
        with torch.no_grad():
            wanted, confidence = practice.answer(frozen, exercise)
        logits, judged = practice.answer(pupil, exercise)
        masks = functional.binary_cross_entropy_with_logits(logits, wanted.sigmoid())
        masks = masks - functional.binary_cross_entropy_with_logits(wanted, wanted.sigmoid())
        return masks + functional.mse_loss(judged.sigmoid(), confidence.sigmoid())

    def examine(self, pupil: Decoder) -> tuple[float, float]:
        was_training = pupil.training
        pupil.eval()
        served = partial(side_by_side, self.base, pupil, ahead=AHEAD)
        after: dict[int, list[float]] = {1: [], 3: []}
        with torch.inference_mode():
            for k in range(0, len(self.exam), 16):
                exercise = practice.begin(self.exam[k : k + 16], np.random.default_rng(0), boxes=0.0)
                for number in (1, 2, 3):
                    practice.click(exercise, None)
                    logits, judged = practice.answer(served, exercise)
                    practice.feed_back(exercise, logits, judged)
                    if number in after:
                        everywhere = torch.ones_like(exercise.truth)
                        scored = hard_iou(exercise.previous - 0.5, exercise.truth, everywhere)
                        after[number] += scored[:, 0].tolist()
        pupil.train(was_training)
        return float(np.mean(after[1])), float(np.mean(after[3]))
