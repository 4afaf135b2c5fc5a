"""Views: a window of an image resized for the network, prompts carried into it, masks carried back.

Coordinates are those of :mod:`maskloop.segment.prompt`. View pixel (column u, row v) covers
the image around x = x0 + (u + 0.5) (x1 - x0) / width, and so for y.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from maskloop.segment.clicknet_decoder import PromptMaps
from maskloop.segment.prompt import Box, Image, Mask, Point, Prompt, Scribble

Map = NDArray[np.float32]
SCRIBBLE_POINTS = 6
"""Pixels of a stroke that serve as examples, as a click does."""


@dataclass(frozen=True)
class Window:
    """A part of an image, whole pixels: x0 <= x < x1, y0 <= y < y1. It may not leave the image."""

    x0: int
    y0: int
    x1: int
    y1: int

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> Window:
        """All of an image of shape H x W, or H x W x 3."""
        return cls(0, 0, shape[1], shape[0])

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    def holds(self, x0: float, y0: float, x1: float, y1: float) -> bool:
        return self.x0 <= x0 and self.y0 <= y0 and x1 <= self.x1 and y1 <= self.y1

    def view_size(self, long: int) -> tuple[int, int]:
        """(height, width) of its view: the longer side ``long``, both of the form 16 k + 1, at least 65."""
        scale = long / max(self.width, self.height)
        height, width = (max(4, round((side * scale - 1) / 16)) * 16 + 1 for side in (self.height, self.width))
        return height, width


def around(x0: float, y0: float, x1: float, y1: float, margin: float, least: int, size: tuple[int, int]) -> Window:
    """A window ``margin`` times as large as the box, not too narrow, on a grid so that small changes keep it.

    ``least`` is its smallest side in pixels, ``size`` the (height, width) of the image.
    """
    height, width = size
    long = max(x1 - x0, y1 - y0, 1.0)
    sides = [max(side * margin, 0.6 * long * margin, least) for side in (x1 - x0, y1 - y0)]
    step = max(8, 2 ** int(np.log2(max(sides) / 8)))
    spans = []
    for low, high, side, limit in ((x0, x1, sides[0], width), (y0, y1, sides[1], height)):
        middle = (low + high) / 2
        start, stop = np.floor((middle - side / 2) / step) * step, np.ceil((middle + side / 2) / step) * step
        start, stop = max(0, int(start)), min(limit, int(stop))
        spans.append((start, max(stop, start + 1)) if start < limit else (limit - 1, limit))
    return Window(spans[0][0], spans[1][0], spans[0][1], spans[1][1])


def cut(pixels: Image, window: Window, long: int) -> Image:
    """The view of a window, uint8 RGB."""
    height, width = window.view_size(long)
    part = pixels[window.y0 : window.y1, window.x0 : window.x1]
    shrinks = part.shape[0] > height or part.shape[1] > width
    view = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return view.astype(np.uint8, copy=False)


def carried(window: Window, size: tuple[int, int], prompt: Prompt, previous: Map | None) -> PromptMaps:
    """A prompt as the network's maps for one view of (height, width) = ``size``; batch of one.

    Clicks outside the window are left out. ``previous`` is the probability of the mask so
    far in this view, H x W, or None.
    """
    height, width = size
    across, down = width / window.width, height / window.height
    points = []
    for point in prompt.points:
        u, v = (point.x - window.x0) * across - 0.5, (point.y - window.y0) * down - 0.5
        if -1 <= u <= width and -1 <= v <= height:
            points.append((float(np.clip(u, 0, width - 1)), float(np.clip(v, 0, height - 1)), float(point.positive)))
    box = np.zeros((1, 1, height, width), np.float32)
    if prompt.box is not None:
        b = prompt.box
        x0, x1 = (round((x - window.x0) * across) for x in (b.x0, b.x1))
        y0, y1 = (round((y - window.y0) * down) for y in (b.y0, b.y1))
        box[..., max(y0, 0) : max(y1, y0 + 1, 1), max(x0, 0) : max(x1, x0 + 1, 1)] = 1
    strokes = np.zeros((1, 2, height, width), np.float32)
    for scribble in prompt.scribbles:
        seen = resized(scribble.mask[window.y0 : window.y1, window.x0 : window.x1].astype(np.float32), size) > 0.1
        strokes[0, 0 if scribble.positive else 1][seen] = 1
        places = np.argwhere(seen)
        for row, column in places[np.linspace(0, len(places) - 1, SCRIBBLE_POINTS).astype(int)] if len(places) else ():
            points.append((float(column), float(row), float(scribble.positive)))
    mask = np.zeros((1, 1, height, width), np.float32)
    if previous is not None:
        mask[0, 0] = previous
    table = np.array(points or [(0.0, 0.0, -1.0)], np.float32)[None]
    return PromptMaps(*(torch.from_numpy(array) for array in (table, box, strokes, mask)))


def reduced(prompt: Prompt, scale: tuple[float, float], size: tuple[int, int]) -> Prompt:
    """A prompt in the frame of the kept pixels, (height, width) = ``size``."""
    if scale == (1.0, 1.0):
        return prompt
    box = prompt.box
    return Prompt(
        tuple(Point(p.x / scale[0], p.y / scale[1], p.positive) for p in prompt.points),
        None if box is None else Box(box.x0 / scale[0], box.y0 / scale[1], box.x1 / scale[0], box.y1 / scale[1]),
        tuple(Scribble(_shrunk(s.mask, size, 0.05), s.positive) for s in prompt.scribbles),
        None if prompt.prior is None else _shrunk(prompt.prior, size, 0.5),
        prompt.label,
    )


def _shrunk(mask: Mask, size: tuple[int, int], share: float) -> Mask:
    small: Mask = resized(mask.astype(np.float32), size) > share
    return small


def resized(array: Map, size: tuple[int, int]) -> Map:
    """A map resized to (height, width), averaging when it shrinks."""
    shrinks = array.shape[0] > size[0] or array.shape[1] > size[1]
    result = cv2.resize(array, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return result.astype(np.float32, copy=False)


def moved(probability: Map, source: Window, target: Window, size: tuple[int, int]) -> Map:
    """A probability seen in one window as it looks in the view, (height, width) = ``size``, of another; 0 elsewhere."""
    across = (source.width / probability.shape[1]) * (size[1] / target.width)
    down = (source.height / probability.shape[0]) * (size[0] / target.height)
    left = (source.x0 - target.x0) * size[1] / target.width
    top = (source.y0 - target.y0) * size[0] / target.height
    # warpAffine maps pixel centres: u' + 0.5 = across (u + 0.5) + left.
    matrix = np.array([[across, 0, left + 0.5 * across - 0.5], [0, down, top + 0.5 * down - 0.5]])
    if across < 0.8 or down < 0.8:
        probability = cv2.GaussianBlur(probability, (0, 0), 0.4 / across, sigmaY=0.4 / down).astype(np.float32)
    result = cv2.warpAffine(probability, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return result.astype(np.float32, copy=False)


def spread(logits: Map, window: Window, scale: tuple[float, float], size: tuple[int, int]) -> Mask:
    """Logits of a window as a mask of the whole image, (height, width) = ``size``.

    ``scale`` is the image's pixels for each of the window's pixels, along x and along y.
    """
    mask = np.zeros(size, bool)
    x0, x1 = (round(x * scale[0]) for x in (window.x0, window.x1))
    y0, y1 = (round(y * scale[1]) for y in (window.y0, window.y1))
    x1, y1 = min(max(x1, x0 + 1), size[1]), min(max(y1, y0 + 1), size[0])
    if x1 > x0 and y1 > y0:
        mask[y0:y1, x0:x1] = cv2.resize(logits, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR) > 0
    return mask


def bounds(mask: Mask) -> tuple[int, int, int, int] | None:
    """The box around a mask as x0, y0, x1, y1 (the last two beyond it); None for an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
