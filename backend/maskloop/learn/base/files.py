"""The files that training data are made of: tables, and pictures with their masks."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


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


def paired(folder: Path, table: list[dict[str, str]]) -> list[tuple[Path, list[Path]]]:
    """Every image of a table in ``folder``, with all of its masks."""
    masks: dict[str, list[Path]] = defaultdict(list)
    for row in table:
        masks[row["image"]].append(folder / "masks" / row["mask"])
    return [(folder / "images" / image, paths) for image, paths in masks.items()]
