"""The gate: a version must earn its place on the project's own hold-out.

The candidate is compared with the current version and with the base, object by object (paired), by clicks
to IoU 85 % and 90 % (NoC) and by the IoU after one and three clicks. One figure made of all four, the effort,
decides whether it is better: four tests on a few objects would find something better by chance far too often.
Intervals are Student's over images, since objects of one image are not independent and images are few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

EFFORT = "effort"
METRICS = ("noc85", "noc90", "iou1", "iou3", EFFORT)
LOWER_IS_BETTER = frozenset({"noc85", "noc90", EFFORT})

CONFIDENCE = 0.95
"""Of the two-sided intervals; that of the effort, of which one side is asked about, is 90 %."""
GOOD = 0.9
"""An IoU above which nothing is left to do: no effort is saved by more."""
PATIENCE = 10
"""Clicks that count as all the effort there can be, as an IoU of 0 does."""
LEAST_OBJECTS = 4
"""Objects of the hold-out below which nothing can be told from noise."""
LEAST_IMAGES = 3
LABEL_BOUND = 0.10
"""How much worse than the current version a label may get: 10 % more clicks (NoC@85) and 0.10 clicks at least."""
CLICKS_BOUND = 0.05
"""How many more clicks to 85 % the candidate may need over all, whatever else is better."""


@dataclass(frozen=True)
class Score:
    """How one version did on one object of the hold-out: clicks to 85 and 90 % IoU, IoU after 1 and 3 clicks."""

    image: str
    object: str
    label: str | None
    noc85: float
    noc90: float
    iou1: float
    iou3: float

    @property
    def effort(self) -> float:
        """The mean of both numbers of clicks, of PATIENCE, and both errors, 1 - IoU: 0.1 at best, 1 at worst."""
        clicks = (min(1.0, self.noc85 / PATIENCE), min(1.0, self.noc90 / PATIENCE))
        return float(np.mean([*clicks, 1 - min(GOOD, self.iou1), 1 - min(GOOD, self.iou3)]))


@dataclass(frozen=True)
class Change:
    """A metric of two versions, and the interval of the difference (second - first)."""

    metric: str
    first: float
    second: float
    low: float
    high: float

    @property
    def better(self) -> bool:
        """The second is better beyond noise."""
        return self.high < 0 if self.metric in LOWER_IS_BETTER else self.low > 0

    @property
    def worse(self) -> bool:
        """The second is worse beyond noise."""
        return self.low > 0 if self.metric in LOWER_IS_BETTER else self.high < 0


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate becomes current, why, and the numbers behind it."""

    promote: bool
    reasons: tuple[str, ...]
    against_current: tuple[Change, ...]
    against_base: tuple[Change, ...]
    labels: Mapping[str, Change]
    objects: int
    images: int


def judge(candidate: Sequence[Score], current: Sequence[Score], base: Sequence[Score]) -> Verdict:
    """Promote the candidate only if it is better beyond noise and no label pays for it.

    The three sequences score the same objects. The rule: against the current version the effort is less with 95 %
    confidence and no metric is worse with 95 % confidence; no label needs over 10 % more clicks (NoC@85, labels
    with at least 4 objects); and over all it needs at most 5 % more clicks to 85 % than the current version, and
    than the base.
    Raises ValueError when the objects differ.
    """
    keys = [[(s.image, s.object) for s in scores] for scores in (candidate, current, base)]
    if not keys[0] == keys[1] == keys[2]:
        raise ValueError("the three versions were not scored on the same objects in the same order")
    images = len({score.image for score in candidate})
    if len(candidate) < LEAST_OBJECTS or images < LEAST_IMAGES:
        reason = (
            f"the hold-out has {len(candidate)} objects on {images} images; at least {LEAST_OBJECTS} on "
            f"{LEAST_IMAGES} are needed to tell better from luck"
        )
        return Verdict(False, (reason,), (), (), {}, len(candidate), images)
    to_current = tuple(compare(current, candidate, metric) for metric in METRICS)
    to_base = tuple(compare(base, candidate, metric) for metric in METRICS)
    labels: dict[str, Change] = {}
    for label in sorted({score.label for score in candidate if score.label is not None}):
        chosen = [k for k, score in enumerate(candidate) if score.label == label]
        if len(chosen) >= LEAST_OBJECTS:
            labels[label] = compare([current[k] for k in chosen], [candidate[k] for k in chosen], "noc85")
    against: list[str] = []
    *figures, effort = to_current
    if not effort.better:
        tried = "; ".join(_words(change) for change in (effort, *figures))
        against.append(f"not better than the current version beyond noise ({tried})")
    against += [f"worse than the current version: {_words(change)}" for change in to_current if change.worse]
    for name, change in (("current version", to_current[0]), ("base", to_base[0])):
        if change.second > (1 + CLICKS_BOUND) * change.first:
            against.append(f"over {CLICKS_BOUND:.0%} more clicks than the {name}: {_words(change)}")
    for label, change in labels.items():
        if change.second > change.first + max(LABEL_BOUND * change.first, 0.10):
            against.append(f"label {label!r} would need more clicks: {_words(change)}")
    better = [_words(change) for change in (effort, *figures) if change.better]
    reasons = tuple(against) if against else tuple(f"better than the current version: {words}" for words in better)
    return Verdict(not against, reasons, to_current, to_base, labels, len(candidate), images)


def compare(first: Sequence[Score], second: Sequence[Score], metric: str) -> Change:
    """The paired difference of a metric with its interval over images."""
    a = np.array([getattr(score, metric) for score in first], np.float64)
    b = np.array([getattr(score, metric) for score in second], np.float64)
    groups = [score.image for score in first]
    low, high = interval(b - a, groups, 2 * CONFIDENCE - 1 if metric == EFFORT else CONFIDENCE)
    return Change(metric, float(a.mean()), float(b.mean()), low, high)


def interval(values: NDArray[np.float64], groups: Sequence[str], confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Student's interval of a mean whose values come in groups, which are what is independent.

    One group proves nothing: its interval is as wide as its largest value, to both sides.
    """
    names = sorted(set(groups))
    mean = float(values.mean())
    if len(names) < 2:
        most = float(np.abs(values).max())
        return mean - most, mean + most
    index = {name: k for k, name in enumerate(names)}
    member = np.array([index[group] for group in groups])
    apart = np.bincount(member, weights=values - mean, minlength=len(names))
    error = float(np.sqrt(len(names) / (len(names) - 1) * np.sum(apart**2))) / len(values)
    reach = float(stdtrit(len(names) - 1, (1 + confidence) / 2)) * error
    return mean - reach, mean + reach


def _words(change: Change) -> str:
    names = {"noc85": "clicks to 85 %", "noc90": "clicks to 90 %", "iou1": "IoU at click 1", "iou3": "IoU at click 3"}
    name = names.get(change.metric, change.metric)
    return f"{name} {change.first:.2f} -> {change.second:.2f} (difference {change.low:+.2f} to {change.high:+.2f})"
