"""Training views of submitted objects: square crops of their images, at many scales, seen once by the encoder.

A view is what the network works on: the whole image at first, a closer look at the object after that.
Because training leaves the encoder alone, the features of a view are computed once and then only decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskloop.learn.samples import Sample
from maskloop.segment.clicknet_encoder import Encoder, normalised
from maskloop.segment.prompt import Image, Mask

SIDE = 257
"""Pixels of a view's side, of the form 16 k + 1."""

ZOOM = (1.2, 4.0)
"""How much larger than its object a close view is."""

LARGEST_POOL = 1000
"""Views kept: about 1 MB each."""


@dataclass(frozen=True, eq=False)
class View:
    """Features (float16, without a batch dimension, on the encoder's device) and the object's mask, SIDE x SIDE."""

    features: dict[str, Tensor]
    mask: Mask
    label: str | None


def view_pool(
    encoder: Encoder, samples: Sequence[Sample], per_object: int, seed: int, augment: bool, most: int = LARGEST_POOL
) -> Iterator[View]:
    """``per_object`` views of every object, at most ``most`` in all; the same seed gives the same views."""
    rng = np.random.default_rng(seed)
    chosen = [(sample, k) for sample in samples for k in range(len(sample.targets))] * per_object
    if len(chosen) > most:
        chosen = [chosen[i] for i in sorted(rng.permutation(len(chosen))[:most])]
    for sample, index in chosen:
        target = sample.targets[index]
        for _ in range(8):
            pixels, mask = cut(sample.pixels, target.mask, rng, augment)
            if mask.any() and not mask.all():
                yield View(_features(encoder, pixels), mask, target.label)
                break


def cut(pixels: Image, mask: Mask, rng: np.random.Generator, augment: bool) -> tuple[Image, Mask]:
    """One square crop with the object in it, turned and tinted at random if ``augment``; SIDE x SIDE."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    extent = float(max(bottom - top, right - left))
    longest = float(max(mask.shape))
    whole = rng.random() < 0.35
    zoom = float(np.exp(rng.uniform(*np.log(ZOOM)))) if augment else 1.6
    side = longest if whole else float(np.clip(extent * zoom, min(48.0, longest), max(longest, 48.0)))
    slack = 0.0 if whole else max(0.0, side - extent) / 2
    shift = rng.uniform(-0.7, 0.7, 2) * slack if augment else np.zeros(2)
    middle = (mask.shape[1] / 2, mask.shape[0] / 2) if whole else ((left + right) / 2, (top + bottom) / 2)
    x0, y0 = middle[0] + shift[0] - side / 2, middle[1] + shift[1] - side / 2
    scale = SIDE / side
    matrix = np.array([[scale, 0, -x0 * scale], [0, scale, -y0 * scale]], np.float64)
    matrix[:, 2] += (scale - 1) / 2  # pixel centres, not corners
    if scale < 0.5:
        # warpAffine has no area filter: shrink by halves first, or fine texture turns to noise.
        pixels, matrix = _halved(pixels, matrix)
    seen = cv2.warpAffine(pixels, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    full = np.array([[scale, 0, -x0 * scale + (scale - 1) / 2], [0, scale, -y0 * scale + (scale - 1) / 2]])
    soft = cv2.warpAffine(mask.astype(np.uint8) * 255, full, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    cropped = soft >= 128
    if augment:
        if rng.random() < 0.5:
            seen, cropped = seen[:, ::-1], cropped[:, ::-1]
        if rng.random() < 0.5:
            seen, cropped = seen[::-1], cropped[::-1]
        if rng.random() < 0.5:
            seen, cropped = seen.transpose(1, 0, 2), cropped.T
        gain, bias = rng.uniform(0.85, 1.15, 3), rng.uniform(-12, 12, 3)
        seen = np.clip(seen * gain + bias, 0, 255)
    return np.ascontiguousarray(seen, np.uint8), np.ascontiguousarray(cropped)


def _halved(pixels: Image, matrix: NDArray[np.float64]) -> tuple[Image, NDArray[np.float64]]:
    while matrix[0, 0] < 0.5 and min(pixels.shape[:2]) > 2:
        height, width = pixels.shape[:2]
        pixels = np.asarray(
            cv2.resize(pixels, (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA), np.uint8
        )
        matrix = matrix * np.array([[2.0, 2.0, 1.0]])
    return pixels, matrix


def _features(encoder: Encoder, pixels: Image) -> dict[str, Tensor]:
    device = next(encoder.parameters()).device
    with torch.inference_mode():
        features = encoder(normalised(torch.from_numpy(pixels)[None].to(device)))
    return {name: value[0].to(torch.float16) for name, value in features.items()}
