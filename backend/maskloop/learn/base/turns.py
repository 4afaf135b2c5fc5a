"""A batch that is clicked on again and again, as RITM does: each click goes into the largest error so far."""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
import torch
from torch import Tensor

from maskloop.learn.base.data import Sample
from maskloop.learn.clicks import next_click
from maskloop.segment.clicknet_decoder import PromptMaps
from maskloop.segment.prompt import Mask, Point


class Turns:
    """The prompts of a batch, growing by one click each turn."""

    def __init__(self, samples: list[Sample], device: torch.device) -> None:
        self.samples, self.device = samples, device
        self.points = [list(sample.points) for sample in samples]
        self.box = torch.from_numpy(np.stack([s.box for s in samples]))[:, None].to(device).float()
        self.scribbles = torch.from_numpy(np.stack([s.scribbles for s in samples])).to(device).float()
        self.previous = torch.from_numpy(np.stack([s.previous for s in samples]))[:, None].to(device).float()

    def prompts(self) -> PromptMaps:
        most = max(1, *(len(points) for points in self.points))
        table = np.full((len(self.points), most, 3), -1, np.float32)
        for row, points in zip(table, self.points, strict=True):
            for index, point in enumerate(points):
                row[index] = point
        return PromptMaps(torch.from_numpy(table).to(self.device), self.box, self.scribbles, self.previous)

    def ambiguous(self) -> Tensor:
        """Which samples have one click and nothing else."""
        alone = [
            len(points) == 1 and not (s.box.any() or s.scribbles.any())
            for points, s in zip(self.points, self.samples, strict=True)
        ]
        return torch.tensor(alone, device=self.device) & ~self.previous.flatten(1).any(1)

    def correct(self, probability: Tensor, rng: np.random.Generator, pool: Executor | None = None) -> None:
        """Feed the answers (B x H x W) back and click into the largest error of each, by the threads of a ``pool``."""
        self.previous = probability[:, None]
        masks = (probability > 0.5).cpu().numpy()
        each = (pool.map if pool else map)(self._click, self.samples, self.points, masks, rng.spawn(len(masks)))
        list(each)

    @staticmethod
    def _click(sample: Sample, points: list[tuple[int, int, int]], mask: Mask, rng: np.random.Generator) -> None:
        taken = tuple(Point(x + 0.5, y + 0.5) for x, y, _ in points)
        careless = rng if rng.random() < 0.4 else None
        click = next_click(mask, sample.truth.astype(bool), taken=taken, rng=careless)
        if click is not None:
            points.append((int(click.x), int(click.y), int(click.positive)))
