"""The small network that says for every pixel which label it looks like and how deep inside an object it lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from maskloop.learn.pixels import Appearance, Floats
from maskloop.learn.samples import Sample

MOST_FEATURES = 80_000_000
"""Of all pixels of all lessons together: 320 MB, and as much again while a head is trained on them."""

Report: TypeAlias = Callable[[float], None]


class Head(nn.Module):
    """Pixel features to likeness of each label (logits) and depth inside an object (logit)."""

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))
        self.layers = nn.Sequential(
            nn.Linear(channels, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, labels + 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.layers(((features - self.mean) / self.spread).clamp(-6, 6))
        return result


def maps(head: Head, seen: Appearance) -> tuple[Floats, Floats]:
    """Likeness of each label (labels x H x W) and depth (H x W) on the grid of what is seen.

    The first layer adds up what it makes of each feature, so that can be done before the features are laid on the
    grid. A head that was trained on the first few features alone looks at those.
    """
    first, rest = head.layers[0], head.layers[1:]
    assert isinstance(first, nn.Linear)
    start, total = 0, np.zeros((*seen.size, first.out_features), np.float32)
    with torch.inference_mode():
        for layer in seen.layers:
            channels = slice(start, start + layer[0].values.shape[-1])
            if channels.stop > len(head.mean):
                break
            total += seen.spread(layer, partial(_made, head, first.weight, channels))
            start = channels.stop
        flat = torch.from_numpy(total).flatten(0, 1) + first.bias
        answers = rest(flat).sigmoid().numpy()
    found = np.ascontiguousarray(answers.reshape(*seen.size, -1).transpose(2, 0, 1))
    return found[:-1], found[-1]


def _made(head: Head, weight: Tensor, channels: slice, values: Floats) -> Floats:
    """What the first layer of a head makes of some of the features, without its bias."""
    scaled = ((torch.from_numpy(values) - head.mean[channels]) / head.spread[channels]).clamp(-6, 6)
    made: Floats = (scaled @ weight[:, channels].T).numpy()
    return made


@dataclass(frozen=True, eq=False)
class Lesson:
    """Pixels of one image: features (N x channels), which labels they have (N x labels, 0 or 1) and how deep inside
    an object they lie (N; 0 outside, 1 deepest).
    """

    features: Floats
    answers: Floats
    depths: Floats


def pixel_lessons(
    sample: Sample, seen: Appearance, labels: Sequence[str], rng: np.random.Generator, images: int = 1
) -> Lesson:
    """Some pixels inside the objects of an image, around them and elsewhere: its share of MOST_FEATURES at most.

    ``images`` is how many there are lessons from.
    """
    height, width = seen.size
    belongs = np.zeros((height, width, len(labels)), bool)
    unknown = np.zeros((height, width), bool)
    depth = np.zeros((height, width), np.float32)
    for target in sample.targets:
        small = cv2.resize(target.mask.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA) >= 128
        if target.label is None:
            unknown |= small
            continue
        belongs[..., labels.index(target.label)] |= small
        inner = cv2.distanceTransform(np.pad(small, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        depth = np.maximum(depth, inner / max(float(inner.max()), 1.0))
    inside = belongs.any(axis=-1)
    ring = (cv2.dilate(np.asarray(inside, np.uint8), np.ones((9, 9), np.uint8)) > 0) & ~inside & ~unknown
    picked = []
    share = min(1.0, MOST_FEATURES / (4000 * seen.channels * images))
    for area, most in ((inside, 1500), (ring, 700), (~inside & ~unknown, 1800)):
        places = np.flatnonzero(area)
        picked.append(rng.permutation(places)[: int(share * most)])
    chosen = np.concatenate(picked)
    return Lesson(
        seen.at(chosen), belongs.reshape(-1, len(labels))[chosen].astype(np.float32), depth.reshape(-1)[chosen]
    )


def train_head(lessons: Sequence[Lesson], width: int, report: Report = lambda done: None, epochs: int = 12) -> Head:
    """A head for pixels like those of the lessons, of which it sees the first ``width`` features."""
    x = torch.from_numpy(np.concatenate([lesson.features[:, :width] for lesson in lessons]))
    y = torch.from_numpy(np.concatenate([lesson.answers for lesson in lessons]))
    d = torch.from_numpy(np.concatenate([lesson.depths for lesson in lessons]))
    head = Head(x.shape[1], y.shape[1])
    head.mean.copy_(x.mean(0))
    head.spread.copy_(x.std(0) + 1e-4)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=1e-3)
    steps = epochs * max(1, len(x) // 2048)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps + 1)
    # Rare labels count as much as frequent ones.
    weight = (len(y) / (2 * y.sum(0) + 1)).clamp(0.5, 20)
    cross = nn.BCEWithLogitsLoss(pos_weight=weight)
    head.train()
    for step in range(steps):
        pick = torch.randint(0, len(x), (2048,))
        out = head(x[pick])
        loss = cross(out[:, :-1], y[pick]) + 0.5 * nn.functional.binary_cross_entropy_with_logits(out[:, -1], d[pick])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            report(step / steps)
    return head.eval()
