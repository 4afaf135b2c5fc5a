"""The training loop: a decoder learns a project's own objects without forgetting the rest of the world.

Whatever the family of models, its encoder is left alone, so every cached embedding stays valid. Two things hold the
decoder back: its weights are pulled towards the base's (L2-SP, Li et al. 2018), and where the annotator's objects say
nothing (clicks elsewhere in the same images) it shall answer as the base does (distillation, Li and Hoiem 2016).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic

import numpy as np
import torch
from torch import Tensor

from maskloop.learn.checkpoint import CHECKPOINT, Course, key, resume, save, state
from maskloop.learn.curriculum import Chosen, Curriculum, Exercise, Net, Report

CHECKPOINT_SECONDS = 20.0
AVERAGING = 0.93
"""The decoder that is examined is a running average over about 15 steps: single steps on few objects are rough."""
LEVEL = 0.01
"""Validation IoU that means nothing: the objects are few. Of decoders that are level the last has learned most."""
POOL_SHARE = 0.25
"""Of the time, what preparing the exercises may take."""


@dataclass(frozen=True)
class Plan:
    """How long and how hard to train. ``seconds`` bounds the whole of :func:`finetune`."""

    seconds: float
    seed: int = 0
    batch: int = 6
    rate: float = 1.5e-3
    steps: int = 1200
    exams: int = 8
    patience: int = 4
    per_object: int = 5
    pull: float = 3e-4
    distil_every: int = 6
    distil: float = 2.0


def finetune(curriculum: Curriculum[Net, Exercise], plan: Plan, folder: Path, report: Report) -> Course:
    """A better decoder than the curriculum's start, which is not changed.

    Returned is the last decoder that was level with the best one on the validation objects, which is the start if all
    others did worse. After ``patience`` exams in a row that were not level the training ends.
    A checkpoint in ``folder`` is taken up where it stands if it belongs to the same plan and data.
    Raises ValueError when there is nothing to train on or to judge by.
    """
    began = time.monotonic()
    until = began + POOL_SHARE * plan.seconds
    curriculum.prepare(plan.per_object, plan.seed, until, lambda done, note: report(0.1 * done, note))
    if not curriculum.pool or not curriculum.exam:
        raise ValueError("there are no objects to train on, or none to judge by")

    pupil, examined = curriculum.pupil(curriculum.start), curriculum.pupil(curriculum.start)
    weights = curriculum.weights(pupil)
    frozen = curriculum.pupil(curriculum.base)
    anchor = state(curriculum.weights(frozen))
    optimizer = torch.optim.AdamW(weights.values(), lr=plan.rate, weight_decay=0.0)
    path, ours = folder / CHECKPOINT, key(plan, curriculum.train, curriculum.validation, weights)
    course = resume(path, ours, weights, optimizer)
    if course is None:
        first = curriculum.examine(pupil)
        course = Course(state(weights), sum(first) / 2, curve=[(0, 0.0, *first)])
    rng = np.random.default_rng((plan.seed, course.step))
    clock = _Clock(plan, began, course.step)
    means = state(weights)
    saved, losses = time.monotonic(), []
    teachers = _Teachers(curriculum, plan, pupil, frozen)
    while not clock.over(course.step) and not _finished(course, plan):
        done = clock.done(course.step)
        for group in optimizer.param_groups:
            group["lr"] = _rate(plan, course.step, done)
        losses.append(teachers.teach(course.step, rng))
        for name, value in weights.items():
            assert value.grad is not None
            value.grad += 2 * plan.pull * (value.detach() - anchor[name])
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        _follow(means, weights, 1 - AVERAGING)
        course.step += 1
        report(0.1 + 0.9 * clock.done(course.step), f"step {course.step}")
        if clock.exam_is_due(course.step):
            _follow(curriculum.weights(examined), means, 1.0)
            one, three = curriculum.examine(examined)
            course.curve.append((course.step, float(np.mean(losses)), one, three))
            losses.clear()
            if (one + three) / 2 >= course.best_value - LEVEL:
                course.best = {n: m.clone() for n, m in means.items()}
            course.best_value = max(course.best_value, (one + three) / 2)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            course.seconds += time.monotonic() - saved
            save(path, ours, weights, optimizer, course)
            saved = time.monotonic()
    course.seconds += time.monotonic() - saved
    return course


class _Teachers(Generic[Net, Exercise]):
    """One for each core, who teach the pupil a share of each batch at the same time; on a GPU a single one.

    They wait for each other once a step. Cores that share every operation do hundreds of times, on a busy machine long.
    """

    def __init__(self, curriculum: Curriculum[Net, Exercise], plan: Plan, pupil: Net, frozen: Net) -> None:
        self._curriculum, self._plan, self._pupil, self._frozen = curriculum, plan, pupil, frozen
        self._weights = list(curriculum.weights(pupil).values())
        self._count = min(plan.batch, torch.get_num_threads()) if self._weights[0].device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(self._count, initializer=torch.set_num_threads, initargs=(1,))

    def teach(self, step: int, rng: np.random.Generator) -> float:
        """Put the gradients of one batch into the pupil's weights; the mean loss."""
        chosen = rng.integers(0, len(self._curriculum.pool), self._plan.batch)
        shares = np.array_split(chosen, self._count)
        taught = list(self._pool.map(partial(self._share, step), shares, rng.spawn(self._count)))
        for k, value in enumerate(self._weights):
            value.grad = sum((found[k] for _, found in taught), torch.zeros_like(value))
        return sum(loss for loss, _ in taught)

    def _share(self, step: int, chosen: Chosen, rng: np.random.Generator) -> tuple[float, list[Tensor]]:
        loss = self._curriculum.lesson(self._pupil, chosen, rng)
        if step % self._plan.distil_every == 0:
            loss = loss + self._plan.distil * self._curriculum.reminder(self._pupil, self._frozen, chosen, rng)
        loss = loss * (len(chosen) / self._plan.batch)
        found = torch.autograd.grad(loss, self._weights, allow_unused=True, materialize_grads=True)
        return float(loss.detach()), list(found)


def _follow(means: Mapping[str, Tensor], weights: Mapping[str, Tensor], share: float) -> None:
    """Move some weights towards others."""
    with torch.no_grad():
        for mean, value in zip(means.values(), weights.values(), strict=True):
            mean.lerp_(value, share)


class _Clock:
    """How far a training is: by its steps or by its time, whichever ends first."""

    def __init__(self, plan: Plan, began: float, step: int) -> None:
        self._plan = plan
        self._began = began
        self._exams = int(step / plan.steps * plan.exams)

    def done(self, step: int) -> float:
        elapsed = (time.monotonic() - self._began) / self._plan.seconds
        return min(1.0, max(step / self._plan.steps, elapsed))

    def over(self, step: int) -> bool:
        return self.done(step) >= 1.0

    def exam_is_due(self, step: int) -> bool:
        """At regular points of the way, and at its end."""
        if self.done(step) >= (self._exams + 1) / self._plan.exams:
            self._exams = int(self.done(step) * self._plan.exams)
            return True
        return False


def _rate(plan: Plan, step: int, done: float) -> float:
    """A short warm-up, then half a cosine."""
    return plan.rate * min(1.0, (step + 1) / 10) * (0.05 + 0.95 * 0.5 * (1 + float(np.cos(np.pi * done))))


def _finished(course: Course, plan: Plan) -> bool:
    values = [(one + three) / 2 for _, _, one, three in course.curve]
    return len(values) > plan.patience and max(values[-plan.patience :]) < course.best_value - LEVEL
