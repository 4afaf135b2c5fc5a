"""What every pixel of an image looks like, as numbers: a small filter bank beside the encoder's own features."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from maskloop.segment.prompt import Image
from maskloop.segment.segmenter import Embedding

GRID = 448
"""Pixels; the longer side of the grid on which objects are proposed (a smaller image keeps its size)."""

SIGMAS = (1.0, 2.0, 4.0, 8.0)
BANK = 6 + 7 * len(SIGMAS)
"""Channels of the filter bank; those of the encoder follow them."""
MOST_CHANNELS = 128
"""Maps of the embedding with more channels are coarse, and slow as they are."""
MIXED = 64
"""Channels that such maps are mixed down to."""

Floats = NDArray[np.float32]


def grid_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of the grid of an image."""
    scale = min(1.0, GRID / max(height, width))
    return max(8, round(height * scale)), max(8, round(width * scale))


def filter_bank(pixels: Image, size: tuple[int, int]) -> Floats:
    """Colour, edges, blobs and texture at several scales: height x width x channels."""
    small = cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32) / 255.0
    # Relative to the image too: exposure and staining differ from image to image.
    spread = lab.std(axis=(0, 1)) + 0.02
    channels = [lab, (lab - lab.mean(axis=(0, 1))) / spread]
    light = np.ascontiguousarray(lab[..., 0])
    for sigma in SIGMAS:
        smooth = cv2.GaussianBlur(lab, (0, 0), sigma)
        flat = np.ascontiguousarray(smooth[..., 0])
        dx, dy = cv2.Sobel(flat, cv2.CV_32F, 1, 0), cv2.Sobel(flat, cv2.CV_32F, 0, 1)
        xx, yy = cv2.Sobel(dx, cv2.CV_32F, 1, 0), cv2.Sobel(dy, cv2.CV_32F, 0, 1)
        xy = cv2.Sobel(dx, cv2.CV_32F, 0, 1)
        root = np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
        texture = np.sqrt(np.maximum(cv2.GaussianBlur(light**2, (0, 0), sigma) - flat**2, 0))
        gain = sigma / spread[0]
        narrow = [np.hypot(dx, dy) * gain, ((xx + yy) / 2 + root) * gain, ((xx + yy) / 2 - root) * gain, texture * gain]
        channels += [smooth, np.stack(narrow, axis=-1)]
    return np.concatenate([np.asarray(c, np.float32) for c in channels], axis=-1)


def encoder_maps(embedding: Embedding, size: tuple[int, int]) -> list[Floats]:
    """The embedding's own feature maps (float16, C x h x w) on the grid, height x width x C each.

    Those with many channels come last, mixed: they tell what a thing is, where the others tell what it looks like.
    """
    maps = [cv2.resize(_last(m), (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for m in _maps(embedding.arrays)]
    return [np.asarray(m, np.float32).reshape(*size, -1) for m in maps]


def look(pixels: Image, embedding: Embedding, width: int | None = None) -> Floats:
    """All features on the grid: height x width x channels; only the filter bank where a head sees no more than that.

    ``width`` is the number of channels that the head sees, None for all.
    """
    size = grid_size(*pixels.shape[:2])
    bank = filter_bank(pixels, size)
    if width is not None and width <= BANK:
        return bank
    # Once: putting so many channels beside each other takes longer than making them.
    return np.concatenate([bank, *encoder_maps(embedding, size)], axis=-1)


def _maps(arrays: Mapping[str, NDArray[np.generic]]) -> list[Floats]:
    usable = [arrays[name] for name in sorted(arrays) if arrays[name].dtype == np.float16]
    squeezed = [a[0] if a.ndim == 4 and a.shape[0] == 1 else a for a in usable]
    maps = [np.asarray(a, np.float32) for a in squeezed if a.ndim == 3]
    narrow = [m for m in maps if len(m) <= MOST_CHANNELS]
    return narrow + [np.tensordot(_mixture(len(m)), m, 1) for m in maps if len(m) > MOST_CHANNELS]


@cache
def _mixture(channels: int) -> Floats:
    """MIXED x channels: random signs keep distances (Achlioptas 2003), and are the same on every machine."""
    signs = np.random.RandomState(channels).randint(0, 2, (MIXED, channels)) * 2 - 1
    return np.asarray(signs / np.sqrt(channels), np.float32)


def _last(array: Floats) -> Floats:
    return np.ascontiguousarray(np.moveaxis(array, 0, -1))
