"""What an engine without weights works on: a small view of the image, and the prompt as seeds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from maskloop.segment.prompt import Box, Image, Mask, Prompt

FRAME = 0.02
"""Width of the frame that is taken for background where nothing says otherwise, as a share of the view."""
CLICK_RADIUS = 0.012
"""Radius of the disc a click seeds, as a share of the view's longer side."""
GROWTH = 0.08
"""How far around a positive seed what looks like it counts as a seed too, as a share of the view's longer side."""
LIKENESS = 9.0
"""Largest difference of a Lab channel (of 255) that still looks alike."""
REACH = 0.55
"""How far a click that contradicts the prior mask overrules it, in square roots of the mask's area."""


@dataclass(frozen=True)
class Scene:
    """A view h x w of the image. Seeds are certain, ``prior`` is a guess, all of them h x w.

    ``background`` marks what is assumed to be background for want of anything better: the
    outside of the box, or the view's frame; it never holds where a positive seed is.
    """

    image: Image
    positive: Mask
    negative: Mask
    background: Mask
    boxed: bool
    prior: Mask | None
    doubt: Mask
    """Where a click contradicts the prior mask, which says nothing there."""

    @property
    def outside(self) -> Mask:
        """Certain and assumed background together."""
        union: Mask = self.negative | self.background
        return union


def view(pixels: Image, prompt: Prompt, area: Box, side: int) -> Scene:
    """The part ``area`` of ``pixels`` shrunk to ``side`` pixels at most, with the prompt drawn on it.

    ``prompt`` and ``area`` are in the pixels of ``pixels``; ``area`` is inside it and whole.
    """
    x0, y0, x1, y1 = (round(v) for v in (area.x0, area.y0, area.x1, area.y1))
    scale = min(1.0, side / max(x1 - x0, y1 - y0))
    width, height = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    image = np.asarray(cv2.resize(pixels[y0:y1, x0:x1], (width, height), interpolation=cv2.INTER_AREA), np.uint8)

    def shrunk(mask: Mask) -> Mask:
        part = cv2.resize(mask[y0:y1, x0:x1].astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(part >= 0.5)

    positive, negative = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
    for scribble in prompt.scribbles:
        target = positive if scribble.positive else negative
        # A thin stroke must not vanish in the shrinking: any pixel it covers counts.
        ys, xs = np.nonzero(scribble.mask[y0:y1, x0:x1])
        target[(ys * height) // (y1 - y0), (xs * width) // (x1 - x0)] = 1
    radius = max(1, round(CLICK_RADIUS * max(height, width)))
    places = [(int((p.x - x0) * scale), int((p.y - y0) * scale), p.positive) for p in prompt.points]
    for x, y, sign in places:
        cv2.circle(positive if sign else negative, (x, y), radius, 1, -1)
        cv2.circle(negative if sign else positive, (x, y), radius, 0, -1)
    for x, y, sign in places:
        # Where discs overlap, each click keeps at least its own pixel.
        if 0 <= x < width and 0 <= y < height:
            positive[y, x], negative[y, x] = int(sign), int(not sign)

    background = np.zeros((height, width), bool)
    if prompt.box is not None:
        background[:] = True
        left, top = int((prompt.box.x0 - x0) * scale), int((prompt.box.y0 - y0) * scale)
        right, bottom = round((prompt.box.x1 - x0) * scale), round((prompt.box.y1 - y0) * scale)
        background[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = False
    else:
        rim = max(1, round(FRAME * max(height, width)))
        background[:rim] = background[-rim:] = True
        background[:, :rim] = background[:, -rim:] = True
        near = cv2.dilate(positive, np.ones((6 * rim + 1, 6 * rim + 1), np.uint8))
        background &= near == 0
    background &= positive == 0
    prior: Mask | None = None
    doubt: Mask = np.zeros((height, width), bool)
    if prompt.prior is not None:
        prior = shrunk(prompt.prior)
        if prompt.box is None:
            background &= ~prior
        doubt = _near((negative > 0) & prior | (positive > 0) & ~prior, REACH * float(np.sqrt(prior.sum() + 1)))
        prior &= ~_near((negative > 0) & prior, REACH * float(np.sqrt(prior.sum() + 1)))
    return Scene(image, positive > 0, negative > 0, background, prompt.box is not None, prior, doubt)


def _near(seeds: Mask, reach: float) -> Mask:
    """What is less than ``reach`` pixels from a seed."""
    if not seeds.any():
        return seeds
    return np.asarray(cv2.distanceTransform((~seeds).astype(np.uint8), cv2.DIST_L2, 3) < reach)


def _grown(scene: Scene) -> Mask:
    """The positive seeds with what is near them, looks like them and is closer to them than to a negative seed.

    A click of a few pixels would otherwise lose to a whole frame of assumed background.
    """
    if not scene.positive.any():
        return scene.positive.copy()
    reach = max(1, round(GROWTH * max(scene.positive.shape)))
    distance = cv2.distanceTransform((~scene.positive).astype(np.uint8), cv2.DIST_L2, 3)
    near = distance < reach
    if scene.negative.any():
        near &= distance < cv2.distanceTransform((~scene.negative).astype(np.uint8), cv2.DIST_L2, 3)
    lab = cv2.GaussianBlur(cv2.cvtColor(scene.image, cv2.COLOR_RGB2LAB), (0, 0), 1.5).astype(np.float32)
    count, labels = cv2.connectedComponents(scene.positive.astype(np.uint8), connectivity=8)
    grown = scene.positive.copy()
    for label in range(1, count):
        seed = labels == label
        alike = np.abs(lab - lab[seed].mean(axis=0)).max(axis=2) < LIKENESS
        grown |= connected(alike & near | seed, seed)
    return grown


def edges(image: Image) -> NDArray[np.float32]:
    """How strong an edge is at each pixel, h x w, in [0, 1], from the Lab colours lightly smoothed."""
    lab = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2LAB), (0, 0), 1.0).astype(np.float32)
    dx, dy = cv2.Sobel(lab, cv2.CV_32F, 1, 0), cv2.Sobel(lab, cv2.CV_32F, 0, 1)
    strength = np.sqrt((dx**2 + dy**2).sum(axis=2))
    return np.asarray(strength / max(1e-6, float(np.percentile(strength, 98))), np.float32).clip(0, 1)


def connected(mask: Mask, touching: Mask) -> Mask:
    """The connected pieces of ``mask`` that ``touching`` touches."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    keep = np.unique(labels[touching & mask])
    return np.asarray(np.isin(labels, keep) & mask)


def sure(scene: Scene, grow: bool = False) -> tuple[Mask, Mask]:
    """Seeds of both signs for a method that needs some of each: h x w inside, h x w outside, disjoint.

    A prior mask gives its core and what is well away from it; a lone box gives its middle. Positive
    seeds grow over what looks like them until there is a negative one, or always with ``grow``.
    """
    alone = not scene.negative.any()
    inside, outside = (_grown(scene) if alone or grow else scene.positive.copy()), scene.outside
    if scene.prior is not None and scene.prior.any():
        width = max(1.0, 0.12 * float(np.sqrt(scene.prior.sum())))
        depth = cv2.distanceTransform(scene.prior.astype(np.uint8), cv2.DIST_L2, 3)
        inside |= depth > min(width, 0.6 * float(depth.max()))
        away = cv2.distanceTransform((~scene.prior).astype(np.uint8), cv2.DIST_L2, 3) > 2 * width
        outside = outside | (away & ~scene.doubt & ~scene.positive)
    elif not inside.any() and scene.boxed:
        free = ~scene.outside
        depth = cv2.distanceTransform(np.pad(free, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
        inside = depth > 0.6 * float(depth.max())
    inside &= ~scene.negative
    return inside, np.asarray(outside & ~inside)
