"""What every pixel of an image looks like, as numbers: a small filter bank beside the encoder's own features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from maskloop.segment.prompt import Box, Image
from maskloop.segment.segmenter import Closer, Embedding, Segmenter

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
Area: TypeAlias = tuple[slice, slice]
"""Rows and columns."""


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


@dataclass(frozen=True, eq=False)
class Map:
    """Features h x w x C of a part of the grid: of the rows and columns ``over``, and used for those in ``area``."""

    values: Floats
    over: Area
    area: Area


@dataclass(frozen=True, eq=False)
class Appearance:
    """What the pixels of an image look like, on a grid of (height, width) = ``size``.

    ``layers`` are features beside each other, each of one map or of several that share the grid. They are kept at their
    own resolution: on the grid they would take a hundred times the memory.
    """

    size: tuple[int, int]
    layers: Sequence[Sequence[Map]]

    @property
    def channels(self) -> int:
        return sum(layer[0].values.shape[-1] for layer in self.layers)

    def at(self, places: NDArray[np.intp]) -> Floats:
        """The features of some places of the flattened grid: N x channels."""
        rows, columns = np.divmod(places, self.size[1])
        found = np.zeros((len(places), self.channels), np.float32)
        start = 0
        for layer in self.layers:
            stop = start + layer[0].values.shape[-1]
            for one in layer:
                (down, across), (high, wide) = one.area, one.over
                here = (down.start <= rows) & (rows < down.stop) & (across.start <= columns) & (columns < across.stop)
                found[here, start:stop] = _between(one.values, _within(rows[here], high), _within(columns[here], wide))
            start = stop
        return found

    def spread(self, layer: Sequence[Map], change: Callable[[Floats], Floats]) -> Floats:
        """What ``change`` makes of the features of a layer, h x w x C to h x w x K, on the grid: height x width x K."""
        parts = []
        for one in layer:
            (down, across), (high, wide) = one.area, one.over
            size = (wide.stop - wide.start, high.stop - high.start)
            laid = cv2.resize(change(one.values), size, interpolation=cv2.INTER_LINEAR)
            laid = laid.reshape(*size[::-1], -1)
            parts.append(
                laid[down.start - high.start :, across.start - wide.start :][: _length(down), : _length(across)]
            )
        result = np.empty((*self.size, parts[0].shape[-1]), np.float32)
        for one, part in zip(layer, parts, strict=True):
            result[one.area] = part
        return result


def look(pixels: Image, embedding: Embedding, segmenter: Segmenter, width: int | None = None) -> Appearance:
    """What an image looks like: the filter bank, the embedding's maps, and what the segmenter sees in parts of it.

    ``width`` is the number of channels that a head sees, None for all: what lies beyond is not worked out.
    """
    size = grid_size(*pixels.shape[:2])
    everywhere = (slice(0, size[0]), slice(0, size[1]))
    seen = Appearance(size, [[Map(filter_bank(pixels, size), everywhere, everywhere)]])
    if width is None or width > seen.channels:
        whole = [[Map(values, everywhere, everywhere)] for values in encoder_maps(embedding.arrays)]
        seen = Appearance(size, [*seen.layers, *whole])
    if isinstance(segmenter, Closer) and (width is None or width > seen.channels):
        seen = Appearance(size, [*seen.layers, *_closer(embedding, segmenter, size)])
    return seen


def _closer(embedding: Embedding, segmenter: Closer, size: tuple[int, int]) -> list[list[Map]]:
    """The maps of parts that overlap; each is used up to the middle of where they do."""
    down, across = embedding.size[0] / size[0], embedding.size[1] / size[1]
    layers: list[list[Map]] = []
    for high, used_high in _halves(size[0]):
        for wide, used_wide in _halves(size[1]):
            part = Box(wide.start * across, high.start * down, wide.stop * across, high.stop * down)
            maps = encoder_maps(segmenter.closer(embedding, part))
            layers = layers or [[] for _ in maps]
            for layer, values in zip(layers, maps, strict=True):
                layer.append(Map(values, (high, wide), (used_high, used_wide)))
    return layers


def _halves(length: int) -> list[tuple[slice, slice]]:
    """Two parts of a side, a little more than half each, and which half each is used for."""
    middle, more = length // 2, length // 14
    low, high = slice(0, middle + more), slice(middle - more, length)
    return [(low, slice(0, middle)), (high, slice(middle, length))]


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _within(places: NDArray[np.intp], over: slice) -> Floats:
    """Rows or columns of the grid as shares of what a map spans."""
    return np.asarray((places - over.start + 0.5) / _length(over), np.float32)


def _between(values: Floats, down: Floats, across: Floats) -> Floats:
    """Values h x w x C at shares of the height and of the width, N x C, as cv2.resize finds them (bilinear)."""
    found = np.zeros((len(down), values.shape[-1]), np.float32)
    sides = []
    for share, length in ((down, values.shape[0]), (across, values.shape[1])):
        place = np.clip(share * length - 0.5, 0, length - 1)
        low = np.minimum(place.astype(np.intp), max(length - 2, 0))
        sides.append(((low, 1 - (place - low)), (np.minimum(low + 1, length - 1), place - low)))
    for row, upper in sides[0]:
        for column, left in sides[1]:
            found += values[row, column] * (upper * left)[:, None]
    return found


def encoder_maps(arrays: Mapping[str, NDArray[np.generic]]) -> list[Floats]:
    """An encoder's own feature maps (float16, C x h x w) as h x w x C each.

    Those with many channels come last, mixed: they tell what a thing is, where the others tell what it looks like.
    """
    return [_last(values) for values in _maps(arrays)]


def _maps(arrays: Mapping[str, NDArray[np.generic]]) -> list[Floats]:
    usable = [arrays[name] for name in sorted(arrays) if arrays[name].dtype == np.float16]
    squeezed = [a[0] if a.ndim == 4 and a.shape[0] == 1 else a for a in usable]
    maps = [np.asarray(a, np.float32) for a in squeezed if a.ndim == 3]
    narrow = [m for m in maps if len(m) <= MOST_CHANNELS]
    return narrow + [_mixed(m) for m in maps if len(m) > MOST_CHANNELS]


def _mixed(deep: Floats) -> Floats:
    """A map of many channels, C x h x w, as one of MIXED."""
    # By torch: the threads of numpy's product and the encoder's would wait for each other, four times as long.
    mixed: Floats = (torch.from_numpy(_mixture(len(deep))) @ torch.from_numpy(deep).flatten(1)).numpy()
    return mixed.reshape(MIXED, *deep.shape[1:])


@cache
def _mixture(channels: int) -> Floats:
    """MIXED x channels: random signs keep distances (Achlioptas 2003), and are the same on every machine."""
    signs = np.random.RandomState(channels).randint(0, 2, (MIXED, channels)) * 2 - 1
    return np.asarray(signs / np.sqrt(channels), np.float32)


def _last(array: Floats) -> Floats:
    return np.ascontiguousarray(np.moveaxis(array, 0, -1))
