"""What the hold-out says about the proposals for a label, and whether they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maskloop.learn.islands import Proposal
from maskloop.learn.samples import Sample
from maskloop.segment.prompt import iou

LEAST_OBJECTS = 4
LEAST_IMAGES = 3
"""Held-out images with objects of a label, below which its proposals are not shown: one image may be an easy one."""
TOGETHER = 3
"""Objects of one image go together: an image counts as this many independent ones at most."""
SURE = 1.2816
"""Standard deviations of a one-sided confidence of 90 %."""
LEAST_RECALL = 0.4
LEAST_PRECISION = 0.5
GOOD_IOU = 0.7
BETTER = 0.05
"""By how much the F1 of proposals must grow for new ones to take the place of those that serve."""


@dataclass(frozen=True)
class Standing:
    """What the hold-out says about a label's proposals, and whether they are shown.

    ``recall``, ``precision`` count IoU >= 0.7; ``share`` is the part of the objects proposed with IoU >= 0.85.
    """

    live: bool
    floor: float
    precision: float
    recall: float
    share: float
    objects: int
    why: str

    @property
    def f1(self) -> float:
        return 2 * self.precision * self.recall / max(1e-9, self.precision + self.recall)


def stand(
    label: str, tried: Sequence[tuple[Sample, Sequence[Proposal]]], seen: Sequence[tuple[Sample, Sequence[Proposal]]]
) -> Standing:
    """The floor of a label, and whether it goes live: what the hold-out says.

    ``tried`` are the held-out images and what was proposed on them, ``seen`` the same for some trained ones.

    The rule: with the floor that gives the best F1, at least 40 % of the held-out objects are found (IoU >= 0.7)
    and at least half of what is proposed is right, both with 90 % confidence (Wilson's bound), and the objects lie
    on at least LEAST_IMAGES images. In a simulation (decision 14; the floor is picked on the same objects), on 5 and
    on 10 images with one object each, labels of which a fifth of the objects is found go live in at most 1 %, labels
    of which 30 % of the masks are right in 7 and 5 %, and such with 90 % of both in 90 and 100 %. By the two shares
    alone it was 24, 71 and 100 % on 5 images.

    Where people label only some of the objects of an image,
    proposals that meet no submitted object prove nothing; this is taken to be so when, on the images that were
    trained on as if everything else were background, most proposals above the floor still meet none. Then only
    the first half of the rule counts, with proposals that meet a submitted object badly as the wrong ones.
    """
    objects = sum(t.label == label for sample, _ in tried for t in sample.targets)
    images = sum(any(t.label == label for t in sample.targets) for sample, _ in tried)
    if objects < LEAST_OBJECTS or images < LEAST_IMAGES:
        why = f"{objects} held-out objects on {images} images; {LEAST_OBJECTS} on {LEAST_IMAGES} are needed"
        return Standing(False, 1.0, 0.0, 0.0, 0.0, objects, why)
    judged, on_trained = list(_judged(label, tried)), list(_judged(label, seen))
    best = (-1.0, Standing(False, 1.0, 0.0, 0.0, 0.0, objects, "nothing proposed"))
    for floor in sorted({round(score, 3) for score, *_ in judged}):
        above = [(value, right, met) for score, value, right, met in judged if score >= floor]
        lone = [met for score, _, _, met in on_trained if score >= floor]
        partly = bool(lone) and sum(lone) < 0.5 * len(lone)
        right = sum(r for _, r, _ in above)
        wrong = sum(not r and (met or not partly) for _, r, met in above)
        precision, recall = right / max(1, right + wrong), right / objects
        f1 = 2 * precision * recall / max(1e-9, precision + recall)
        found = _at_least(recall, objects, images)
        correct = _at_least(precision, right + wrong, images)
        live = found >= LEAST_RECALL and correct >= LEAST_PRECISION
        why = (
            f"finds {recall:.0%} of {objects} held-out objects on {images} images ({_words(found, LEAST_RECALL)}), "
            f"{precision:.0%} of its masks are right ({_words(correct, LEAST_PRECISION)})"
        )
        why += " (images are labelled in part: masks that meet no submitted object are not counted)" if partly else ""
        share = sum(value >= 0.85 for value, _, _ in above) / objects
        if (live, f1) > (best[1].live, best[0]):
            best = (f1, Standing(live, float(floor), precision, recall, min(1.0, share), objects, why))
    return best[1]


def _at_least(share: float, count: int, images: int) -> float:
    """What a share of ``count`` things on some images surely is at least: Wilson's lower bound."""
    independent = min(count, TOGETHER * images)
    if not independent:
        return 0.0
    extra = SURE**2 / independent
    spread = SURE * float(np.sqrt(share * (1 - share) / independent + extra / (4 * independent)))
    return (share + extra / 2 - spread) / (1 + extra)


def _words(surely: float, needed: float) -> str:
    return f"surely {surely:.0%}" + ("" if surely >= needed else f", {needed:.0%} are needed")


def gain(
    now: Mapping[str, Standing], before: Mapping[str, Standing], again: Callable[[], Mapping[str, Standing]]
) -> str:
    """Why new proposals alone make a version worth promoting; "" if they do not.

    ``before`` is what serves, ``again`` judges the same proposals on the hold-out as it is now, which takes a while and
    is only done where it decides. No label may fall silent; either one goes live for the first time, or the
    mean F1 of those that are live grows by BETTER.
    """
    live, served = ({label for label, one in all_.items() if one.live} for all_ in (now, before))
    if not live or served - live:
        return ""
    if fresh := sorted(live - served):
        return f"pre-annotation goes live for {', '.join(fresh)}"
    judged = (again(), now)
    old, new = (float(np.mean([all_[label].f1 if label in all_ else 0.0 for label in served])) for all_ in judged)
    return f"proposals are better: F1 {old:.2f} -> {new:.2f} on the hold-out" if new >= old + BETTER else ""


def loss(now: Mapping[str, Standing], again: Mapping[str, Standing]) -> str:
    """Why the proposals that serve should go on serving; "" if new ones may take their place.

    ``again`` is what serves, judged with the decoder and on the hold-out of the new ones. The new ones are worse if
    a label falls silent, or if the mean F1 of those that are live falls by BETTER.
    """
    served = sorted(label for label, one in again.items() if one.live)
    if silent := [label for label in served if label not in now or not now[label].live]:
        return f"new ones would be silent for {', '.join(silent)}"
    if not served:
        return ""
    old, new = (float(np.mean([all_[label].f1 for label in served])) for all_ in (again, now))
    return f"new ones are worse, F1 {old:.2f} -> {new:.2f} on the hold-out" if new <= old - BETTER else ""


def _judged(
    label: str, tried: Sequence[tuple[Sample, Sequence[Proposal]]]
) -> Iterator[tuple[float, float, bool, bool]]:
    """For every proposal of a label: score, IoU with its object, whether it found a new one, whether it met any."""
    for sample, proposals in tried:
        open_truths = [t.mask for t in sample.targets if t.label == label]
        every = [t.mask for t in sample.targets]
        for proposal in proposals:
            if proposal.label != label:
                continue
            values = [iou(proposal.mask, truth) for truth in open_truths]
            best = int(np.argmax(values)) if values else -1
            value = values[best] if values else 0.0
            if value >= GOOD_IOU:
                del open_truths[best]
            area = np.count_nonzero(proposal.mask)
            met = any(np.count_nonzero(proposal.mask & truth) > 0.2 * area for truth in every)
            yield proposal.score, value, value >= GOOD_IOU, met
