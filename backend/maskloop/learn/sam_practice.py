"""Clicks for training a SAM: a batch of objects is corrected as an annotator would, on the grid of the logits.

All objects of a batch have the same number of clicks, or all have a box: that is how a prompt reaches the network when
it serves, and a SAM takes a prompt that is padded for another one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskloop.learn.clicks import next_click
from maskloop.segment.prompt import Mask, Point
from maskloop.segment.sam_net import SamNet
from maskloop.segment.sam_prompt import Frame, around

ROUGH = 20
"""A box is drawn up to a ROUGHth of its object's size too large or too small."""


@dataclass(frozen=True, eq=False)
class Scene:
    """An object in its image.

    ``features`` are the image's embedding (float16, shared by all of its objects); ``mask`` is the object on the grid
    of the logits, low x low; ``outside`` the cells there that lie outside the image; ``box`` x0, y0, x1, y1 in input
    pixels.
    """

    features: Mapping[str, NDArray[np.generic]]
    mask: Mask
    outside: Mask
    box: NDArray[np.float32]


@dataclass
class Exercise:
    """Scenes that are clicked on together. Points are cells of the grid; ``previous`` is B x low x low logits."""

    scenes: Sequence[Scene]
    features: dict[str, Tensor]
    truth: Tensor
    valid: Tensor
    points: list[tuple[Point, ...]]
    boxes: Tensor | None
    previous: Tensor | None = None

    @property
    def one_click(self) -> bool:
        """Whether one click is all that was given: it can mean a part or the whole, and three masks are asked for."""
        return len(self.points[0]) == 1 and self.boxes is None and self.previous is None


def scene(features: Mapping[str, NDArray[np.generic]], frame: Frame, mask: Mask) -> Scene | None:
    """An object of an image; None for one so thin that nothing of it is left on the grid."""
    small = frame.shrunk(mask) >= 0.5
    box = around(mask)
    if box is None or not small.any():
        return None
    return Scene(features, small, frame.shrunk(np.ones_like(mask)) < 0.5, frame.box(box))


def begin(
    scenes: Sequence[Scene], rng: np.random.Generator, boxes: float = 0.25, device: torch.device | None = None
) -> Exercise:
    """A batch with nothing given or, now and then, with a box each. The first click is still to come."""
    features = {
        name: torch.from_numpy(np.stack([scene.features[name] for scene in scenes])).to(device).float()
        for name in scenes[0].features
    }
    truth = torch.from_numpy(np.stack([scene.mask for scene in scenes])).to(device).float()[:, None]
    valid = torch.from_numpy(np.stack([~scene.outside for scene in scenes])).to(device).float()[:, None]
    given: Tensor | None = None
    if rng.random() < boxes:
        exact = np.stack([scene.box for scene in scenes])
        sizes = np.tile(exact[:, 2:] - exact[:, :2], 2)
        given = torch.from_numpy((exact + sizes * rng.uniform(-1, 1, exact.shape) / ROUGH).astype(np.float32)).to(
            device
        )
    return Exercise(scenes, features, truth, valid, [() for _ in scenes], given)


def click(exercise: Exercise, rng: np.random.Generator | None) -> None:
    """The next click of every scene, in its largest error: the centre, or (with ``rng``) near it half of the time."""
    if exercise.boxes is not None and exercise.previous is None:
        return  # the box is the first prompt
    for k, one in enumerate(exercise.scenes):
        now = np.zeros_like(one.mask) if exercise.previous is None else exercise.previous[k].cpu().numpy() > 0
        careless = rng if rng is not None and rng.random() < 0.5 else None
        taken = exercise.points[k]
        point = next_click(now, one.mask, one.outside, taken, careless)
        # Nothing left to correct: once more inside the object, so that the batch stays even.
        point = point or next_click(np.zeros_like(now), one.mask, rng=careless)
        assert point is not None
        exercise.points[k] = (*taken, point)


def answer(net: SamNet, exercise: Exercise) -> tuple[Tensor, Tensor]:
    """Mask logits B x M x low x low and predicted IoUs B x M for the prompts so far."""
    clicked, device = bool(exercise.points[0]), exercise.truth.device
    places = [[(p.x, p.y) for p in points] for points in exercise.points]
    signs = [[int(p.positive) for p in points] for points in exercise.points]
    result: tuple[Tensor, Tensor] = net(
        exercise.features,
        points=torch.tensor(places, device=device) * (net.side / net.low) - 0.5 if clicked else None,
        labels=torch.tensor(signs, device=device) if clicked else None,
        boxes=exercise.boxes,
        masks=exercise.previous,
        several=exercise.one_click,
    )
    return result


def feed_back(exercise: Exercise, logits: Tensor, judged: Tensor) -> None:
    """The mask the network believes in most is what it starts from next, as when it serves."""
    chosen = judged.argmax(dim=1)
    exercise.previous = logits[torch.arange(len(logits)), chosen].detach().clamp(-32, 32)


@contextmanager
def serving(net: SamNet) -> Iterator[None]:
    """No gradients, and the network as it answers an annotator: SAM 2 then picks the more stable of its masks."""
    decoder = net.model.mask_decoder
    was_training = decoder.training
    decoder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        decoder.train(was_training)
