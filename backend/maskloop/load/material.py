"""What ``maskloop bench learning`` works on: the pictures of a data set, and pictures of other kinds."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from maskloop.learn.evaluate import Object, objects
from maskloop.load import scenes
from maskloop.load.rehearsal import Picture, pictures

OTHERS = 10_000
"""What the numbers of their tasks begin with."""


def objects_of(folder: Path, sources: Sequence[str]) -> list[Object]:
    """The objects of a folder, whatever its index calls its part of the data."""
    for split in (folder.name, "train", "eval"):
        with contextlib.suppress(ValueError):
            return objects(folder, split, sources)
    raise ValueError(f"no objects in {folder}: it needs images/ and masks/")


def others(data: Path, given: Path | None, known: Sequence[Object], most: int, scratch: Path) -> list[Picture]:
    """Up to ``most`` pictures of other kinds: of the ``given`` folder, else of ``eval`` beside the data, else drawn."""
    beside = data.resolve().parent / "eval"
    folder = given or (beside if (beside / "images").is_dir() else None)
    shown: list[Picture] = []
    if folder is not None:
        sources = {one.source for one in known}
        shown = pictures([one for one in objects_of(folder, []) if one.source not in sources], 2)[:most]
    shown = shown or _scenes(scratch / "scenes", most)
    return [Picture(OTHERS + p.task, p.path, p.objects) for p in shown]


def _scenes(folder: Path, count: int) -> list[Picture]:
    found = []
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        pixels, truth = scenes.draw(number, seed=number)
        image, mask = folder / "images" / f"{number}.png", folder / "masks" / f"{number}.png"
        cv2.imwrite(str(image), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        cv2.imwrite(str(mask), truth.astype(np.uint8) * 255)
        found.append(Picture(number, image, (Object("scene", image, mask),)))
    return found


def copied(shown: Sequence[Picture], folder: Path) -> list[Picture]:
    """The same pictures in a folder of the server's own."""
    folder.mkdir(parents=True, exist_ok=True)
    return [Picture(p.task, Path(shutil.copy(p.path, folder / f"{p.task}{p.path.suffix}")), p.objects) for p in shown]
