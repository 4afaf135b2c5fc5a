"""The hold-out's exam: every object is clicked until it fits, on the same path an annotator's clicks take.

Two annotators click each object: one in the centre of the largest error, the other anywhere in its inner half. One
click more or less is often a matter of a few pixels, and the mean of both tells better from luck on fewer objects.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

import numpy as np

from maskloop import __version__
from maskloop.learn.clicks import next_click
from maskloop.learn.gate import PATIENCE, Score
from maskloop.learn.samples import Sample, Target
from maskloop.segment.postprocess import clean
from maskloop.segment.prompt import Mask, Point, Prompt, iou
from maskloop.segment.segmenter import Embedding, Segmenter

MOST_CLICKS = PATIENCE
"""An object that takes more clicks counts as MOST_CLICKS."""

MOST_OBJECTS = 45
PER_IMAGE = 4
LEAST_ASKED = 12


Question: TypeAlias = tuple[Sample, Target]


def questions(samples: Sequence[Sample]) -> tuple[Question, ...]:
    """The objects that are asked for: at most PER_IMAGE of an image and MOST_OBJECTS in all, the same every time."""
    chosen: list[tuple[str, Sample, Target]] = []
    for sample in samples:
        ranked = sorted(sample.targets, key=lambda target: target.digest)[:PER_IMAGE]
        chosen += [(_rank(sample, target), sample, target) for target in ranked]
    chosen.sort(key=lambda entry: entry[0])
    return tuple((sample, target) for _, sample, target in chosen[:MOST_OBJECTS])


def take(
    segmenter: Segmenter,
    weights: str,
    asked: Sequence[Question],
    embed: Callable[[Sample], Embedding],
    known: Path,
    report: Callable[[float], None],
    seconds: float = float("inf"),
) -> list[Score]:
    """The scores of one version on the first of the questions: on all, unless ``seconds`` end before that.

    ``weights`` stands for the version's weights: what these have answered in an earlier exam is read from
    ``known``, a JSON file. LEAST_ASKED questions are answered however long they take.
    """
    until = time.monotonic() + seconds
    remembered = _read(known)
    scores: list[Score] = []
    for number, (sample, target) in enumerate(asked):
        if number >= LEAST_ASKED and time.monotonic() > until:
            break
        key = f"{__version__}/{weights}/{target.digest}/{sample.content}/labelled"
        if key not in remembered:
            score = _clicked(segmenter, embed(sample), sample, target)
            remembered[key] = {k: v for k, v in asdict(score).items() if k in _NUMBERS}
            _write(known, remembered)
        scores.append(Score(sample.content, target.digest, target.label, **remembered[key]))
        report((number + 1) / len(asked))
    return scores


_NUMBERS = ("noc85", "noc90", "iou1", "iou3")


def corrected(
    segmenter: Segmenter, embedding: Embedding, target: Target, most: int, rng: np.random.Generator | None = None
) -> Iterator[tuple[Prompt, Mask, float]]:
    """Prompt, mask and IoU after each click: in the centre of the largest error, or near it by ``rng``."""
    truth = target.mask
    points: tuple[Point, ...] = ()
    mask: Mask = np.zeros(truth.shape, bool)
    for _ in range(most):
        point = next_click(mask, truth, taken=points, rng=rng)
        if point is None:
            return
        points += (point,)
        prompt = Prompt(points=points, label=target.label)
        mask = clean(segmenter.decode(embedding, prompt).mask, prompt)
        yield prompt, mask, iou(mask, truth)


def _clicked(segmenter: Segmenter, embedding: Embedding, sample: Sample, target: Target) -> Score:
    careless = np.random.default_rng(int(target.digest, 16))
    figures = [_figures(segmenter, embedding, target, rng) for rng in (None, careless)]
    return Score(sample.content, target.digest, target.label, *(float(value) for value in np.mean(figures, axis=0)))


def _figures(
    segmenter: Segmenter, embedding: Embedding, target: Target, rng: np.random.Generator | None
) -> tuple[float, float, float, float]:
    """Clicks to IoU 0.85 and to 0.9, and the IoU after one click and after three, of one annotator."""
    reached: list[float] = []
    for _, _, value in corrected(segmenter, embedding, target, MOST_CLICKS, rng):
        reached.append(value)
        if value >= 0.9 and len(reached) >= 3:
            break
    at = [next((k + 1 for k, v in enumerate(reached) if v >= limit), MOST_CLICKS) for limit in (0.85, 0.9)]
    return at[0], at[1], reached[0], reached[min(2, len(reached) - 1)]


def _rank(sample: Sample, target: Target) -> str:
    return hashlib.sha256(f"{sample.content}{target.digest}".encode()).hexdigest()


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return {str(key): dict(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def _write(path: Path, scores: Mapping[str, Mapping[str, float]]) -> None:
    # A name of its own: `maskloop compare` may write the same file while a training does.
    partial = path.with_suffix(f".{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.write_text(json.dumps(scores))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
