"""The SAM family's curriculum: the submitted images as the encoder saw them when they were opened, clicked on again.

One embedding of an image is all there is: a turned or tinted copy would have to be encoded, which costs a hundred
times as much as a click. What varies is the object, the clicks and the box.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from maskloop.learn import sam_practice as practice
from maskloop.learn.base.loss import edge_band, hard_iou, mask_loss
from maskloop.learn.curriculum import Chosen, Curriculum, Report, Weights
from maskloop.learn.finetune import Plan
from maskloop.learn.sam_practice import Scene
from maskloop.learn.samples import Sample
from maskloop.segment.prompt import Point
from maskloop.segment.sam import SamSegmenter
from maskloop.segment.sam_net import SamNet
from maskloop.segment.segmenter import Embedding

LEAST_IMAGES = 3
"""Images that are trained on however long the encoder takes for those that no cache has."""
MOST_BYTES = 512_000_000
"""Of the embeddings that are kept at hand: about 60 images of SAM 2.1, 250 of SAM; each training draws its own."""
EXAM_SCENES = 12
"""Validation objects; a click takes ten times as long as clicknet's."""
EXAM_PER_IMAGE = 3


def plan(seconds: float, seed: int) -> Plan:
    """Gentler than clicknet's: a large decoder that knows a lot already, and few steps, since each takes seconds."""
    return Plan(
        seconds=seconds,
        seed=seed,
        batch=4,
        rate=1e-4,
        steps=300,
        exams=6,
        per_object=1,
        pull=1e-3,
        distil_every=4,
        distil=1.0,
    )


class SamLessons(Curriculum[SamNet, Scene]):
    """Scenes on the samples' embeddings, which ``embed`` takes from the cache where it can."""

    def __init__(
        self,
        start: SamSegmenter,
        base: SamSegmenter,
        train: Sequence[Sample],
        validation: Sequence[Sample],
        embed: Callable[[Sample], Embedding],
    ) -> None:
        super().__init__(start.net, base.net, train, validation)
        self._segmenter = start
        self._embed = embed
        self._begin = partial(practice.begin, device=start.device)

    def prepare(self, per_object: int, seed: int, until: float, report: Report) -> None:
        taken = 0
        for sample in self.validation:
            if self.exam and (len(self.exam) >= EXAM_SCENES or time.monotonic() > until):
                break
            embedding = self._embed(sample)
            taken += embedding.nbytes
            self.exam += self._scenes(sample, embedding)[:EXAM_PER_IMAGE]
        self.exam = self.exam[:EXAM_SCENES]
        order = np.random.default_rng(seed).permutation(len(self.train))
        for number, sample in enumerate(self.train[k] for k in order):
            if number >= LEAST_IMAGES and (taken > MOST_BYTES or time.monotonic() > until):
                break
            embedding = self._embed(sample)
            taken += embedding.nbytes
            self.pool += self._scenes(sample, embedding)
            report((number + 1) / len(self.train), f"looked at {number + 1} images")

    def pupil(self, of: SamNet) -> SamNet:
        twin = of.twin()
        twin.model.mask_decoder.train()
        for _, parameter in twin.decoder():
            parameter.requires_grad_(True)
        return twin

    def weights(self, of: SamNet) -> Weights:
        return dict(of.decoder())

    def lesson(self, pupil: SamNet, chosen: Chosen, rng: np.random.Generator) -> Tensor:
        exercise = self._begin([self.pool[k] for k in chosen], rng)
        rounds = int(rng.choice([1, 2, 3, 4, 6], p=[0.4, 0.3, 0.15, 0.1, 0.05]))
        for _ in range(rounds - 1):
            practice.click(exercise, rng)
            with practice.serving(pupil):
                practice.feed_back(exercise, *practice.answer(pupil, exercise))
        practice.click(exercise, rng)
        logits, judged = practice.answer(pupil, exercise)
        ambiguous = torch.full((len(chosen),), exercise.one_click, device=logits.device)
        band = edge_band(exercise.truth, exercise.valid)
        masks, reached = mask_loss(logits, exercise.truth, exercise.valid, band, ambiguous)
        return masks.mean() + functional.mse_loss(judged, reached)

    def reminder(self, pupil: SamNet, frozen: SamNet, chosen: Chosen, rng: np.random.Generator) -> Tensor:
        exercise = self._begin([self.pool[k] for k in chosen], rng, boxes=0.0)
        _click_elsewhere(exercise, rng)
        if rng.random() < 0.5:
            with practice.serving(frozen):
                practice.feed_back(exercise, *practice.answer(frozen, exercise))
            _click_elsewhere(exercise, rng)
        with torch.no_grad():
            wanted, confidence = practice.answer(frozen, exercise)
        logits, judged = practice.answer(pupil, exercise)
        likely = wanted.sigmoid()
        apart = functional.binary_cross_entropy_with_logits(logits, likely, reduction="none")
        apart = apart - functional.binary_cross_entropy_with_logits(wanted, likely, reduction="none")
        seen = exercise.valid.expand_as(apart)
        return (apart * seen).sum() / seen.sum() + functional.mse_loss(judged, confidence)

    def examine(self, pupil: SamNet) -> tuple[float, float]:
        after: dict[int, list[float]] = {1: [], 3: []}
        with practice.serving(pupil):
            for k in range(0, len(self.exam), 4):
                exercise = self._begin(self.exam[k : k + 4], np.random.default_rng(0), boxes=0.0)
                for number in (1, 2, 3):
                    practice.click(exercise, None)
                    practice.feed_back(exercise, *practice.answer(pupil, exercise))
                    assert exercise.previous is not None
                    if number in after:
                        scored = hard_iou(exercise.previous[:, None], exercise.truth, exercise.valid)
                        after[number] += scored[:, 0].tolist()
        return float(np.mean(after[1])), float(np.mean(after[3]))

    def _scenes(self, sample: Sample, embedding: Embedding) -> list[Scene]:
        frame = self._segmenter.frame(embedding.size)
        found = [practice.scene(embedding.arrays, frame, target.mask) for target in sample.targets]
        return [scene for scene in found if scene is not None]


def _click_elsewhere(exercise: practice.Exercise, rng: np.random.Generator) -> None:
    """A click on something in each image that is not the annotator's object."""
    for k, one in enumerate(exercise.scenes):
        rows, columns = np.nonzero(~one.mask & ~one.outside)
        if not len(rows):  # the object fills the grid
            rows, columns = np.nonzero(one.mask)
        pick = int(rng.integers(len(rows)))
        exercise.points[k] += (Point(float(columns[pick]) + 0.5, float(rows[pick]) + 0.5),)
