"""The files that training data are made of: tables, and pictures with their masks."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Outline:
    """A mask as its rings, N x 2 (column, row) of pixels each; a ring within another is a hole."""

    rings: tuple[NDArray[np.int32], ...]

    @classmethod
    def parsed(cls, text: str) -> Outline:
        """From ``x y x y ...``, rings apart by semicolons. Raises ValueError for anything else."""
        try:
            return cls(tuple(np.array(ring.split(), np.int32).reshape(-1, 2) for ring in text.split(";")))
        except ValueError:
            raise ValueError(f"not an outline: {text[:40]!r}; it is `x y x y ...`, rings apart by semicolons") from None


Drawn: TypeAlias = Path | Outline
"""A mask: in a file, or as an outline."""


def mask_of(drawn: Drawn, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask of an image, H x W, 255 inside. Raises FileNotFoundError when its file cannot be read."""
    if isinstance(drawn, Path):
        return read(drawn, cv2.IMREAD_GRAYSCALE)
    return np.asarray(cv2.fillPoly(np.zeros(image.shape[:2], np.uint8), list(drawn.rings), (255,)), np.uint8)


def read(path: Path, flags: int) -> NDArray[np.uint8]:
    """An image file as OpenCV has it. Raises FileNotFoundError when it cannot be read."""
    image = cv2.imread(str(path), flags)
    if image is None:
        raise FileNotFoundError(f"training image {path} is missing or damaged")
    return np.asarray(image, np.uint8)


def rows(path: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a table with at least these columns. Raises ValueError for anything else."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"no training data: {error}; docs/model.md says how they are laid out") from None
    if found and (lacking := set(columns) - set(found[0])):
        raise ValueError(f"{path} lacks {', '.join(sorted(lacking))}; docs/model.md says which columns it has")
    return found


def paired(folder: Path, table: list[dict[str, str]]) -> list[tuple[Path, list[Drawn]]]:
    """Every image of a table in ``folder``, with all of its masks."""
    masks: dict[str, list[Drawn]] = defaultdict(list)
    for row in table:
        masks[row["image"]].append(folder / "masks" / row["mask"])
    return [(folder / "images" / image, paths) for image, paths in masks.items()]


def outlined(folder: Path, table: list[dict[str, str]]) -> list[tuple[Path, list[Drawn]]]:
    """Every image of a table of outlines; their names are paths in ``folder``."""
    masks: dict[Path, list[Drawn]] = defaultdict(list)
    for row in table:
        masks[folder / row["image"]].append(Outline.parsed(row["outline"]))
    return list(masks.items())
