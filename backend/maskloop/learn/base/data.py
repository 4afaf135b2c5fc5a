"""Training samples: a view, the mask of what is meant in it, and the first prompt.

``data`` is a folder laid out as described in ``docs/model.md``: ``permissive/`` with
``index.csv``, ``backgrounds.csv``, ``cutouts.csv`` and, if there is one, ``found.csv``, and ``index.csv`` with the
rows of other sets, of which only those with ``split=train`` and licence CC0 are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from maskloop.learn.base import scenes
from maskloop.learn.base.augment import brushed, damaged, loose_box, misjudged, photographed, scattered
from maskloop.learn.base.collage import coloured_part, pasted
from maskloop.learn.base.files import Drawn, mask_of, outlined, paired, read, rows
from maskloop.learn.clicks import next_click
from maskloop.segment.prompt import Image, Mask

MIX = {
    "coco": 0.26,
    "cutouts": 0.32,
    "shapes": 0.09,
    "defects": 0.13,
    "cells": 0.04,
    "nuclei": 0.07,
    "facade": 0.05,
    "cloth": 0.04,
}
"""Share of each kind of scene."""
FOUND = 0.5
"""Of the photographs with masks, the share of those from ``found.csv`` where it is there."""
PROMPTS = {"click": 0.45, "clicks": 0.15, "box": 0.22, "scribble": 0.05, "prior": 0.13}
"""Share of each kind of first prompt."""


@dataclass(frozen=True)
class Sample:
    """One view: pixels S x S x 3, truth S x S (0, 1), and prompts as clicknet's maps, S x S each.

    ``points`` are (x, y, sign); ``scribbles`` 2 x S x S; ``previous`` the damaged mask to start from.
    """

    pixels: Image
    truth: NDArray[np.uint8]
    points: list[tuple[int, int, int]]
    box: NDArray[np.uint8]
    scribbles: NDArray[np.uint8]
    previous: NDArray[np.uint8]


class Samples:
    """An endless stream of samples; the n-th is decided by (seed, n), whatever came before.

    Raises ValueError when the data are not laid out as they should be.
    """

    def __init__(self, data: Path, seed: int, size: int) -> None:
        self.seed, self.size = seed, size
        permissive = data / "permissive"
        photos = rows(permissive / "index.csv", "dataset", "image", "mask")
        self.photos: dict[str, list[tuple[Path, list[Drawn]]]] = {
            name: paired(permissive, [row for row in photos if row["dataset"] == name])
            for name in ("coco", "cloth", "facade")
        }
        found = permissive / "found.csv"
        self.found = outlined(permissive, rows(found, "image", "outline")) if found.exists() else []
        others = rows(data / "index.csv", "split", "licence", "image", "mask")
        free = [row for row in others if row["split"] == "train" and row["licence"] == "CC0"]
        self.photos["nuclei"] = paired(data / "train", free)
        self.backgrounds, self.cutouts = (
            [permissive / name / row["image"] for row in rows(permissive / f"{name}.csv", "image")]
            for name in ("backgrounds", "cutouts")
        )
        self._kept: dict[Path, NDArray[np.uint8]] = {}
        for kind, pictures in {**self.photos, "backgrounds": self.backgrounds, "cutouts": self.cutouts}.items():
            if not pictures:
                raise ValueError(f"{data} has no {kind}: docs/model.md says what training data are made of")

    def stream(self, start: int, step: int = 1) -> Iterator[Sample]:
        """Samples number start, start + step, ..."""
        number = start
        while True:
            yield self.sample(number)
            number += step

    def sample(self, number: int) -> Sample:
        rng = np.random.default_rng((self.seed, number))
        for _ in range(20):
            kind = str(rng.choice(list(MIX), p=list(MIX.values())))
            view = self._view(rng, kind)
            if view is not None:
                image, truth = view
                if rng.random() < 0.5:
                    image, truth = image[:, ::-1], truth[:, ::-1]
                if rng.random() < (0.1 if kind in ("coco", "cutouts", "facade") else 0.5):
                    image, truth = image.transpose(1, 0, 2), truth.T
                return prompted(rng, photographed(rng, np.ascontiguousarray(image)), np.ascontiguousarray(truth))
        raise RuntimeError(f"no usable view in 20 attempts for sample {number}: is the data complete?")

    def _view(self, rng: np.random.Generator, kind: str) -> tuple[Image, Mask] | None:
        if kind in self.photos:
            photo, alpha = self._object(rng, kind)
            return framed(rng, photo, alpha > 127, self.size)
        if kind == "cutouts":
            return self._composed(rng)
        drawn: scenes.Scene = getattr(scenes, kind)(rng, self.size)
        image, masks = drawn
        masks = [mask for mask in masks if mask.sum() >= 12]
        if not masks:
            return None
        mask = masks[int(rng.integers(len(masks)))]
        return framed(rng, image, mask, self.size) if rng.random() < 0.3 else (image, mask)

    def _composed(self, rng: np.random.Generator) -> tuple[Image, Mask] | None:
        """Cut-out things, people and clothes on a photographed or textured ground."""
        size = self.size
        if rng.random() < 0.75:
            ground = self._image(self.backgrounds[int(rng.integers(len(self.backgrounds)))])
            height, width = ground.shape[:2]
            side = int(min(height, width) * rng.uniform(0.5, 1))
            y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
            seen = cv2.resize(ground[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
            canvas = seen.astype(np.float32)
        else:
            canvas = scenes.texture(rng, size)
        layers: list[Mask] = []
        thing: NDArray[np.float32] | None = None
        alike = rng.random() < 0.3
        for index in range(int(rng.integers(1, 6))):
            if thing is None or not alike:
                thing = self._cutout(rng)
            mask = pasted(rng, canvas, thing)
            for earlier in layers:
                earlier &= ~mask
            layers.append(mask)
            if index == 0 and rng.random() < 0.25:
                part = coloured_part(rng, canvas, mask)
                if part is not None:
                    return np.clip(canvas, 0, 255).astype(np.uint8), part
        sizes = np.array([mask.sum() for mask in layers])
        if sizes.max() < 30:
            return None
        pick = int(rng.choice(np.flatnonzero(sizes >= 30)))
        return np.clip(canvas, 0, 255).astype(np.uint8), layers[pick]

    def _cutout(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Something to paste, h x w x 4, RGBA 0 to 255."""
        if rng.random() < 0.6:
            return self._image(self.cutouts[int(rng.integers(len(self.cutouts)))], alpha=True).astype(np.float32)
        photo, alpha = self._object(rng, "coco" if rng.random() < 0.6 else "cloth")
        x, y, width, height = cv2.boundingRect(alpha)
        return np.dstack([photo, alpha])[y : y + height, x : x + width].astype(np.float32)

    def _object(self, rng: np.random.Generator, kind: str) -> tuple[Image, NDArray[np.uint8]]:
        """A photograph and the mask of an object in it, 255 inside."""
        more = kind == "coco" and self.found and rng.random() < FOUND
        source = self.found if more else self.photos[kind]
        path, masks = source[int(rng.integers(len(source)))]
        photo = self._image(path)
        return photo, mask_of(masks[int(rng.integers(len(masks)))], photo)

    def _image(self, path: Path, alpha: bool = False) -> NDArray[np.uint8]:
        image = self._kept.get(path)
        if image is None:
            stored = read(path, cv2.IMREAD_UNCHANGED if alpha else cv2.IMREAD_COLOR)
            image = np.asarray(cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA if alpha else cv2.COLOR_BGR2RGB), np.uint8)
            self._kept[path] = image
        return image


def framed(rng: np.random.Generator, image: Image, mask: Mask, size: int) -> tuple[Image, Mask] | None:
    """A square view of ``image`` that shows the object: mostly near it, sometimes the whole picture."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if width * height < 16:
        return None
    full = max(image.shape[:2])
    # Most looks are looks at a window around the object, so most lessons are.
    wide = rng.uniform(1.05, 4) if rng.random() < 0.45 else rng.uniform(1.1, 1.7)
    side = full if rng.random() < 0.22 else float(np.clip(max(width, height) * wide, 24, full * 1.1))
    room = max(side - max(width, height), 0.15 * side) / 2
    centre = (x + width / 2 + rng.uniform(-room, room), y + height / 2 + rng.uniform(-room, room))
    if side == full and rng.random() < 0.7:
        centre = (image.shape[1] / 2, image.shape[0] / 2)
    scale = size / side
    stretch = float(np.exp(rng.uniform(-0.15, 0.15)))
    turn = float(rng.normal(0, 0.12)) if rng.random() < 0.4 else 0.0
    matrix = cv2.getRotationMatrix2D(centre, np.degrees(turn), 1.0)
    matrix = np.vstack([matrix, [0, 0, 1]])
    place = np.array([[scale * stretch, 0, 0], [0, scale / stretch, 0], [0, 0, 1.0]])
    place[:2, 2] = size / 2 - place[:2, :2] @ np.array(centre)
    if scale < 0.7:
        image = cv2.GaussianBlur(image, (0, 0), 0.4 / scale).astype(np.uint8)
    affine = (place @ matrix)[:2]
    border = cv2.BORDER_REFLECT_101 if rng.random() < 0.5 else cv2.BORDER_CONSTANT
    view = cv2.warpAffine(image, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)
    if border == cv2.BORDER_REFLECT_101 and (side > full * 0.9 or turn):
        # A mirrored object would be a second true one without a mask.
        view = cv2.warpAffine(image, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    truth = cv2.warpAffine(mask.astype(np.uint8) * 255, affine, (size, size), flags=cv2.INTER_LINEAR) > 127
    if truth.sum() < 12 or truth.mean() > 0.9:
        return None
    return view.astype(np.uint8), truth


def prompted(rng: np.random.Generator, pixels: Image, truth: Mask) -> Sample:
    """A view with the first thing its annotator does."""
    shape = truth.shape
    box, scribbles, previous = np.zeros(shape, np.uint8), np.zeros((2, *shape), np.uint8), np.zeros(shape, np.uint8)
    points: list[tuple[int, int, int]] = []
    kind = str(rng.choice(list(PROMPTS), p=list(PROMPTS.values())))
    around = cv2.dilate(truth.astype(np.uint8), np.ones((41, 41), np.uint8)).astype(bool) & ~truth
    if kind == "box":
        drawn = loose_box(rng, truth)
        box = box if drawn is None else drawn.astype(np.uint8)
    elif kind == "scribble":
        scribbles[0] = brushed(rng, truth)
        if rng.random() < 0.4:
            scribbles[1] = brushed(rng, around)
    elif kind == "prior":
        start = misjudged(rng, truth) if rng.random() < 0.5 else damaged(rng, truth)
        previous = start.astype(np.uint8)
        click = next_click(start, truth, rng=rng) if rng.random() < 0.85 else None
        if click is not None:
            points.append((int(click.x), int(click.y), int(click.positive)))
    if kind == "clicks" or (kind == "box" and rng.random() < 0.3):
        points += [(x, y, 1) for x, y in scattered(rng, truth, int(rng.integers(1, 5)))]
        points += [(x, y, 0) for x, y in scattered(rng, around, int(rng.integers(0, 5)), 0.1)]
    if kind == "click" or not (points or box.any() or scribbles.any() or previous.any()):
        # Most people aim at the middle; the simulated annotator of the evaluation always does.
        inner = 0.95 if rng.random() < 0.5 else 0.4
        points += [(x, y, 1) for x, y in scattered(rng, truth, 1, inner)]
    return Sample(pixels, truth.astype(np.uint8), points, box, scribbles, previous)
