"""The small network that says for every pixel which label it looks like and how deep inside an object it lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from maskloop.learn.pixels import Floats
from maskloop.learn.samples import Sample

MOST_PIXELS = 300_000
"""Of all lessons together: 320 MB with 266 features each, and as much again while a head is trained on them."""

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


def maps(head: Head, features: Floats) -> tuple[Floats, Floats]:
    """Likeness of each label (labels x H x W) and depth (H x W) on the grid of the features (H x W x channels).

    A head that was trained on the first few channels alone looks at those.
    """
    height, width = features.shape[:2]
    flat = torch.from_numpy(features[..., : len(head.mean)].reshape(height * width, -1))
    with torch.inference_mode():
        answers = torch.cat([head(part) for part in torch.split(flat, 65536)]).sigmoid().numpy()
    found = np.ascontiguousarray(answers.reshape(height, width, -1).transpose(2, 0, 1))
    return found[:-1], found[-1]


@dataclass(frozen=True, eq=False)
class Lesson:
    """Pixels of one image: features (N x channels), which labels they have (N x labels, 0 or 1) and how deep inside
    an object they lie (N; 0 outside, 1 deepest).
    """

    features: Floats
    answers: Floats
    depths: Floats


def pixel_lessons(
    sample: Sample, features: Floats, labels: Sequence[str], rng: np.random.Generator, images: int = 1
) -> Lesson:
    """Some pixels inside the objects of an image, around them and elsewhere: its share of MOST_PIXELS at most.

    ``images`` is how many there are lessons from.
    """
    height, width = features.shape[:2]
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
    share = min(1.0, MOST_PIXELS / (4000 * images))
    for area, most in ((inside, 1500), (ring, 700), (~inside & ~unknown, 1800)):
        places = np.flatnonzero(area)
        picked.append(rng.permutation(places)[: int(share * most)])
    chosen = np.concatenate(picked)
    flat = features.reshape(-1, features.shape[-1])[chosen]
    return Lesson(flat, belongs.reshape(-1, len(labels))[chosen].astype(np.float32), depth.reshape(-1)[chosen])


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
