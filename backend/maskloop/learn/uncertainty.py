"""What should be labelled next: the images the model knows least about, and some by chance.

A score in [0, 1] as Label Studio sorts it: low means "a person should look". It is the mean of three signs: how
good the model believes its masks are (predicted IoU), how much they stay the same when the prompt is moved a
little, and how near the image lies to images that were labelled already. A share of the images, chosen by their
content hash, is ranked by chance instead, so that the queue does not circle around one kind of difficulty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from maskloop.segment.prompt import Box, Mask, Point, Prompt
from maskloop.segment.segmenter import Embedding, Segmenter

RANDOM_SHARE = 0.1
JITTER = 0.06
"""How far a prompt is moved: a share of the mask's size."""


@dataclass(frozen=True)
class Certainty:
    """How well an image is known, and why. Every part is in [0, 1], high is certain."""

    score: float
    predicted_iou: float
    agreement: float
    familiarity: float
    by_chance: bool

    def explain(self) -> str:
        """The reason in words."""
        if self.by_chance:
            return "drawn by chance, against tunnel vision"
        if self.predicted_iou == self.agreement == self.familiarity:  # there is no mask to judge it by
            return "no mask is proposed" if self.familiarity else "no mask is proposed, nothing like it was labelled"
        parts = {
            "the model doubts its masks": self.predicted_iou,
            "masks change when the prompt moves": self.agreement,
            "unlike anything labelled so far": self.familiarity,
        }
        return min(parts, key=lambda words: parts[words])


def certainty(
    content: str,
    scores: Sequence[float],
    agreements: Sequence[float],
    familiarity: float,
    share: float = RANDOM_SHARE,
) -> Certainty:
    """The certainty of an image from those of its objects; an image without objects is judged by familiarity."""
    doubt = float(np.mean(scores)) if len(scores) else familiarity
    agree = float(np.mean(agreements)) if len(agreements) else familiarity
    first, second = (int(hashlib.sha256(f"{content}/{k}".encode()).hexdigest()[:8], 16) / 16**8 for k in (1, 2))
    by_chance = first < share
    score = second if by_chance else (doubt + agree + familiarity) / 3
    return Certainty(min(max(score, 0.0), 1.0), doubt, agree, familiarity, by_chance)


def agreement(embedding: Embedding, prompt: Prompt, mask: Mask, segmenter: Segmenter, moves: int = 2) -> float:
    """Mean IoU of a mask with those that the prompt gives when it is moved a little; 1 is firm."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0.0
    reach = JITTER * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1, 4)
    values = []
    for number in range(moves):
        angle = 2 * np.pi * (number + 0.25) / moves
        moved = _moved(prompt, float(reach * np.cos(angle)), float(reach * np.sin(angle)), mask)
        other = segmenter.decode(embedding, moved).mask
        union = np.count_nonzero(mask | other)
        values.append(np.count_nonzero(mask & other) / union if union else 1.0)
    return float(np.mean(values))


def _moved(prompt: Prompt, dx: float, dy: float, mask: Mask) -> Prompt:
    height, width = mask.shape

    def x(value: float) -> float:
        return float(np.clip(value + dx, 0.5, width - 0.5))

    def y(value: float) -> float:
        return float(np.clip(value + dy, 0.5, height - 0.5))

    points = tuple(Point(x(p.x), y(p.y), p.positive) for p in prompt.points)
    box = prompt.box
    if box is not None:
        x0, y0 = float(np.clip(box.x0 + dx, 0, width - 2)), float(np.clip(box.y0 + dy, 0, height - 2))
        x1, y1 = float(np.clip(box.x1 + dx, x0 + 1, width)), float(np.clip(box.y1 + dy, y0 + 1, height))
        box = Box(x0, y0, x1, y1)
    return replace(prompt, points=points, box=box)
