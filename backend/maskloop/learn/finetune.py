"""Retraining clicknet's decoder on a project's own objects, without forgetting the rest of the world.

The encoder is left alone, so every cached embedding stays valid. Two things hold the decoder back: its weights
are pulled towards the base's (L2-SP, Li et al. 2018), and where the annotator's objects say nothing (clicks
elsewhere in the same images) it shall answer as the base does (distillation, Li and Hoiem 2016).
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from maskloop.learn import practice
from maskloop.learn.base.loss import click_loss, edge_band, hard_iou
from maskloop.learn.samples import Sample
from maskloop.learn.views import View, view_pool
from maskloop.segment.clicknet_decoder import Decoder
from maskloop.segment.clicknet_net import ClickNetwork

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_SECONDS = 20.0
AVERAGING = 0.93
"""The decoder that is examined is a running average over about 15 steps: single steps on few objects are rough."""
POOL_SHARE = 0.25
"""Of the time, what encoding the views may take."""
EXAM_VIEWS = 28
"""Validation objects; three clicks on each, several times, must not take the time that learning needs."""


@dataclass(frozen=True)
class Plan:
    """How long and how hard to train. ``seconds`` bounds the whole of :func:`finetune`."""

    seconds: float
    seed: int = 0
    batch: int = 6
    rate: float = 1.5e-3
    steps: int = 500
    exams: int = 8
    patience: int = 5
    per_object: int = 5
    pull: float = 3e-4
    distil_every: int = 6
    distil: float = 2.0


@dataclass
class Course:
    """What happened so far: the best decoder, and the validation IoU after 1 and 3 clicks by step."""

    best: dict[str, Tensor]
    best_value: float
    step: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float, float, float]] = field(default_factory=list)
    """Step, mean training loss since the last entry, validation IoU after 1 click, after 3 clicks."""


Report = Callable[[float, str], None]
"""Progress in [0, 1] and a few words; may raise to stop the training."""


def finetune(
    start: ClickNetwork,
    base: ClickNetwork,
    train: Sequence[Sample],
    validation: Sequence[Sample],
    plan: Plan,
    folder: Path,
    report: Report,
) -> Course:
    """A better decoder for the objects of ``train``, judged on ``validation``; ``start`` itself is not changed.

    The decoder that did best on the validation objects is returned, which is the start if nothing did better.
    A checkpoint in ``folder`` is taken up where it stands if it belongs to the same plan and data.
    """
    began = time.monotonic()
    rng = np.random.default_rng(plan.seed)
    per_object = plan.per_object
    wanted = max(1, per_object * sum(len(sample.targets) for sample in train))
    pool: list[View] = []
    for view in view_pool(start.encoder, train, per_object, plan.seed, augment=True):
        pool.append(view)
        if len(pool) % 25 == 0:
            report(0.1 * min(1.0, len(pool) / wanted), f"looked at {len(pool)} views")
        # Every object comes once before any comes twice: on a busy machine fewer views are enough.
        if len(pool) >= 4 * plan.batch and time.monotonic() - began > POOL_SHARE * plan.seconds:
            break
    exam = list(view_pool(start.encoder, validation, 1, plan.seed + 1, augment=False, most=EXAM_VIEWS))
    if not pool or not exam:
        raise ValueError("there are no objects to train on, or none to judge by")

    decoder = copy.deepcopy(start.decoder).train()
    frozen = copy.deepcopy(base.decoder).eval()
    anchor = {name: value.detach().clone() for name, value in base.decoder.named_parameters()}
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=plan.rate, weight_decay=0.0)
    key = _key(plan, train, validation, start.decoder)
    course = _resume(folder / CHECKPOINT, key, decoder, optimizer)
    if course is None:
        first = examine(decoder, exam)
        course = Course(_state(decoder), sum(first) / 2, curve=[(0, 0.0, *first)])
    rng = np.random.default_rng((plan.seed, course.step))
    clock = _Clock(plan, began, course.step)
    average = copy.deepcopy(decoder)
    saved, losses = time.monotonic(), []
    while not clock.over(course.step) and not _finished(course, plan):
        done = clock.done(course.step)
        for group in optimizer.param_groups:
            group["lr"] = _rate(plan, course.step, done)
        views = [pool[k] for k in rng.integers(0, len(pool), plan.batch)]
        loss = _lesson(decoder, views, rng)
        if course.step % plan.distil_every == 0:
            loss = loss + plan.distil * _reminder(decoder, frozen, views, rng)
        loss = loss + plan.pull * sum(((value - anchor[name]) ** 2).sum() for name, value in decoder.named_parameters())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for mean, value in zip(average.parameters(), decoder.parameters(), strict=True):
                mean.lerp_(value, 1 - AVERAGING)
        losses.append(float(loss.detach()))
        course.step += 1
        report(0.1 + 0.9 * clock.done(course.step), f"step {course.step}")
        if clock.exam_is_due(course.step):
            one, three = examine(average, exam)
            course.curve.append((course.step, float(np.mean(losses)), one, three))
            losses.clear()
            if (one + three) / 2 > course.best_value:
                course.best, course.best_value = _state(average), (one + three) / 2
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            course.seconds += time.monotonic() - saved
            _save(folder / CHECKPOINT, key, decoder, optimizer, course)
            saved = time.monotonic()
    course.seconds += time.monotonic() - saved
    return course


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


def examine(decoder: Decoder, exam: Sequence[View]) -> tuple[float, float]:
    """Mean IoU after one and after three simulated clicks on views that are never trained on."""
    was_training = decoder.training
    decoder.eval()
    after: dict[int, list[float]] = {1: [], 3: []}
    with torch.inference_mode():
        for k in range(0, len(exam), 16):
            exercise = practice.begin(exam[k : k + 16], np.random.default_rng(0), boxes=0.0)
            for number in (1, 2, 3):
                practice.click(exercise, None)
                logits, judged = practice.answer(decoder, exercise)
                practice.feed_back(exercise, logits, judged)
                if number in after:
                    everywhere = torch.ones_like(exercise.truth)
                    scored = hard_iou(exercise.previous - 0.5, exercise.truth, everywhere)
                    after[number] += scored[:, 0].tolist()
    decoder.train(was_training)
    return float(np.mean(after[1])), float(np.mean(after[3]))


def _lesson(decoder: Decoder, views: Sequence[View], rng: np.random.Generator) -> Tensor:
    """The loss of the answer to the last of some clicks; the clicks before it only lead there."""
    exercise = practice.begin(views, rng)
    rounds = int(rng.choice([1, 2, 3, 4, 6], p=[0.4, 0.25, 0.15, 0.1, 0.1]))
    for _ in range(rounds - 1):
        practice.click(exercise, rng)
        with torch.no_grad():
            logits, judged = practice.answer(decoder, exercise)
        practice.feed_back(exercise, logits, judged)
    practice.click(exercise, rng)
    logits, judged = practice.answer(decoder, exercise)
    valid = torch.ones_like(exercise.truth)
    band = edge_band(exercise.truth, valid)
    loss: Tensor = click_loss(logits, judged, exercise.truth, valid, band, exercise.ambiguous)[0]
    return loss


def _reminder(decoder: Decoder, frozen: Decoder, views: Sequence[View], rng: np.random.Generator) -> Tensor:
    """How far the decoder's answers to clicks outside the annotator's objects are from the base's."""
    exercise = practice.begin(views, rng, boxes=0.0)
    for k, view in enumerate(views):
        rows, columns = np.nonzero(~view.mask)
        for _ in range(int(rng.integers(1, 3))):
            pick = int(rng.integers(len(rows)))
            exercise.points[k].append((float(columns[pick]), float(rows[pick]), 1.0))
    with torch.no_grad():
        wanted, confidence = practice.answer(frozen, exercise)
    logits, judged = practice.answer(decoder, exercise)
    masks = functional.binary_cross_entropy_with_logits(logits, wanted.sigmoid())
    masks = masks - functional.binary_cross_entropy_with_logits(wanted, wanted.sigmoid())
    return masks + functional.mse_loss(judged.sigmoid(), confidence.sigmoid())


def _rate(plan: Plan, step: int, done: float) -> float:
    """A short warm-up, then half a cosine."""
    return plan.rate * min(1.0, (step + 1) / 10) * (0.05 + 0.95 * 0.5 * (1 + float(np.cos(np.pi * done))))


def _finished(course: Course, plan: Plan) -> bool:
    values = [(one + three) / 2 for _, _, one, three in course.curve]
    return len(values) > plan.patience and max(values[-plan.patience :]) < course.best_value


def _state(decoder: Decoder) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in decoder.state_dict().items()}


def _key(plan: Plan, train: Sequence[Sample], validation: Sequence[Sample], start: Decoder) -> str:
    """What a checkpoint must agree on to be continued."""
    digest = hashlib.sha256(repr(plan).encode())
    for sample in [*train, *validation]:
        digest.update(f"{sample.content} {[t.digest for t in sample.targets]}".encode())
    for value in start.state_dict().values():
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _save(path: Path, key: str, decoder: Decoder, optimizer: torch.optim.Optimizer, course: Course) -> None:
    tensors = {f"now.{name}": value for name, value in _state(decoder).items()}
    tensors |= {f"best.{name}": value for name, value in course.best.items()}
    for (name, _), state in zip(decoder.named_parameters(), optimizer.state.values(), strict=True):
        tensors[f"mean.{name}"], tensors[f"square.{name}"] = state["exp_avg"], state["exp_avg_sq"]
    about = {"step": course.step, "seconds": course.seconds, "best_value": course.best_value, "curve": course.curve}
    partial = path.with_suffix(".partial")
    save_file(
        {name: value.contiguous() for name, value in tensors.items()},
        partial,
        metadata={"key": key, "about": json.dumps(about)},
    )
    os.replace(partial, path)


def _resume(path: Path, key: str, decoder: Decoder, optimizer: torch.optim.Optimizer) -> Course | None:
    try:
        with safe_open(path, "pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            about = json.loads(metadata["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, SafetensorError, KeyError, ValueError):
        return None
    decoder.load_state_dict({n.removeprefix("now."): v for n, v in tensors.items() if n.startswith("now.")})
    for name, parameter in decoder.named_parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(about["step"])),
            "exp_avg": tensors[f"mean.{name}"],
            "exp_avg_sq": tensors[f"square.{name}"],
        }
    best = {n.removeprefix("best."): v for n, v in tensors.items() if n.startswith("best.")}
    curve = [(int(a), float(b), float(c), float(d)) for a, b, c, d in about["curve"]]
    return Course(best, float(about["best_value"]), int(about["step"]), float(about["seconds"]), curve)
