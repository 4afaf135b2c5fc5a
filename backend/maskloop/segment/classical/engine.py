"""A segmenter around a classical method: views, zoom, and clicks that are honoured to the pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from maskloop.segment.catalog import Source
from maskloop.segment.classical.scene import Scene, connected, view
from maskloop.segment.postprocess import honoured
from maskloop.segment.prompt import Box, Image, Mask, Point, Prompt, Scribble
from maskloop.segment.segmenter import Embedding, Prediction

LARGEST_SIDE = 2048
"""Larger images are kept at this size: no method here looks closer."""

Solve: TypeAlias = Callable[[Scene], NDArray[np.float32]]
"""From a scene to the probability, h x w, that each pixel is the object's."""


class Engine:
    """A method that needs no weights, as a :class:`~maskloop.segment.segmenter.Segmenter`.

    It is asked twice: on the whole image (or the surroundings of the box), then closer, on the
    surroundings of what it found. ``side`` bounds the longer side of a view, and with it the time.
    """

    def __init__(self, name: str, solve: Solve, side: int) -> None:
        self.name = name
        self.encoder = f"pixels-{LARGEST_SIDE}"
        self._solve = solve
        self._side = side

    def encode(self, image: Image) -> Embedding:
        height, width = image.shape[:2]
        scale = min(1.0, LARGEST_SIDE / max(height, width))
        if scale < 1:
            smaller = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), np.uint8)
        return Embedding({"pixels": np.ascontiguousarray(image)}, (height, width), self.encoder)

    def decode(self, embedding: Embedding, prompt: Prompt) -> Prediction:
        if embedding.encoder != self.encoder:
            raise ValueError(f"{self.name} cannot use an embedding of encoder {embedding.encoder!r}")
        if prompt.empty:
            raise ValueError("the prompt is empty: give a point, a box, a scribble or a mask")
        pixels = np.asarray(embedding.arrays["pixels"], np.uint8)
        small = _scaled(prompt, embedding.size, (pixels.shape[0], pixels.shape[1]))
        height, width = embedding.size
        probability = _resized(self._probability(pixels, small), width, height)
        mask = probability > 0.5
        for scribble in prompt.scribbles:
            mask[scribble.mask] = scribble.positive
        return Prediction(honoured(mask, prompt.points), expected_iou(probability, mask))

    def _probability(self, pixels: Image, prompt: Prompt) -> NDArray[np.float32]:
        height, width = pixels.shape[:2]
        whole = Box(0, 0, width, height)
        found = whole if prompt.box is None else _around(prompt.box, prompt, whole)
        probability = np.zeros((height, width), np.float32)
        # No positive evidence at all leaves nothing to look for.
        signs = [p.positive for p in prompt.points] + [s.positive for s in prompt.scribbles]
        if not (any(signs) or prompt.box or prompt.prior is not None):
            return probability
        for zoom in (False, True):
            x0, y0, x1, y1 = (round(v) for v in (found.x0, found.y0, found.x1, found.y1))
            scene = view(pixels, prompt, found, self._side)
            part = _one_object(self._solve(scene), scene)
            probability[:] = 0
            probability[y0:y1, x0:x1] = _resized(part, x1 - x0, y1 - y0)
            ys, xs = np.nonzero(probability > 0.5)
            if zoom or not len(xs) or max(x1 - x0, y1 - y0) <= self._side:
                break
            closer = _around(Box(xs.min(), ys.min(), xs.max() + 1, ys.max() + 1), prompt, whole)
            if max(closer.x1 - closer.x0, closer.y1 - closer.y0) > 0.7 * max(x1 - x0, y1 - y0):
                break
            found = closer
        return probability


def engine(source: Source, solve: Solve, side: int) -> Engine:
    """The engine of a model's folder; its card may set another ``side`` in [options]."""
    return Engine(source.card.name, solve, int(source.card.options.get("side", side)))


def expected_iou(probability: NDArray[np.float32], mask: Mask) -> float:
    """The IoU that a mask would have on average if its probabilities were true ones, in [0, 1]."""
    inside = float(probability[mask].sum())
    union = float(mask.sum()) + float(probability[~mask].sum())
    return min(1.0, inside / union) if union else 0.0


def _one_object(probability: NDArray[np.float32], scene: Scene) -> NDArray[np.float32]:
    """Without the pieces that no positive seed (or, for want of one, the prior or the box) touches."""
    probability[scene.positive] = 1
    probability[scene.negative] = 0
    touching = scene.positive
    if scene.prior is not None:
        touching = touching | scene.prior
    if not touching.any():
        touching = ~scene.outside
    found = probability > 0.5
    probability[found & ~connected(found, touching)] = 0
    return probability


def _resized(probability: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _around(box: Box, prompt: Prompt, whole: Box) -> Box:
    """The box and every positive point, with a margin of a quarter, cut off at the image's edge."""
    xs = [box.x0, box.x1, *(p.x for p in prompt.points if p.positive)]
    ys = [box.y0, box.y1, *(p.y for p in prompt.points if p.positive)]
    for evidence in [
        *(s.mask for s in prompt.scribbles if s.positive),
        *([] if prompt.prior is None else [prompt.prior]),
    ]:
        rows, columns = np.nonzero(evidence.any(axis=1))[0], np.nonzero(evidence.any(axis=0))[0]
        if len(rows):
            xs += [columns[0], columns[-1] + 1]
            ys += [rows[0], rows[-1] + 1]
    margin = 0.25 * max(max(xs) - min(xs), max(ys) - min(ys)) + 4
    x0, y0 = max(whole.x0, min(xs) - margin), max(whole.y0, min(ys) - margin)
    x1, y1 = min(whole.x1, max(xs) + margin), min(whole.y1, max(ys) + margin)
    return Box(min(x0, whole.x1 - 1), min(y0, whole.y1 - 1), max(x1, whole.x0 + 1), max(y1, whole.y0 + 1))


def _scaled(prompt: Prompt, size: tuple[int, int], to: tuple[int, int]) -> Prompt:
    """The prompt in the pixels of an image of size ``to``; both are (height, width)."""
    if size == to:
        return prompt
    sy, sx = to[0] / size[0], to[1] / size[1]

    def mask(full: Mask) -> Mask:
        return np.asarray(cv2.resize(full.astype(np.float32), to[::-1], interpolation=cv2.INTER_AREA) >= 0.5)

    def stroke(full: Mask) -> Mask:
        return np.asarray(cv2.resize(full.astype(np.float32), to[::-1], interpolation=cv2.INTER_AREA) > 0)

    return replace(
        prompt,
        points=tuple(Point(p.x * sx, p.y * sy, p.positive) for p in prompt.points),
        box=prompt.box and Box(prompt.box.x0 * sx, prompt.box.y0 * sy, prompt.box.x1 * sx, prompt.box.y1 * sy),
        scribbles=tuple(Scribble(stroke(s.mask), s.positive) for s in prompt.scribbles),
        prior=None if prompt.prior is None else mask(prompt.prior),
    )
