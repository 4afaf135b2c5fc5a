from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def training_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as the training data, two small pictures of each kind."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    permissive = root / "permissive"
    for folder in ("images", "masks", "backgrounds", "cutouts"):
        (permissive / folder).mkdir(parents=True)
    for folder in ("images", "masks"):
        (root / "train" / folder).mkdir(parents=True)
    rows: dict[str, list[dict[str, str]]] = {"index": [], "backgrounds": [], "cutouts": []}
    free: list[dict[str, str]] = []
    for kind in ("coco", "cloth", "facade", "dsb", "bsds"):
        for number in range(2):
            image = rng.integers(0, 255, (120, 160, 3)).astype(np.uint8)
            mask = np.zeros((120, 160), np.uint8)
            cv2.circle(mask, (70 + 20 * number, 60), 30, 255, -1)
            image[mask > 0] = (30, 40, 200)
            name = f"{kind}_{number}"
            home = root / "train" if kind in ("dsb", "bsds") else permissive
            cv2.imwrite(str(home / "images" / f"{name}.jpg"), image)
            cv2.imwrite(str(home / "masks" / f"{name}_0.png"), mask)
            row = {"dataset": kind, "image": f"{name}.jpg", "mask": f"{name}_0.png"}
            if home is permissive:
                rows["index"].append(row)
            else:
                free.append(row | {"split": "train", "licence": "CC0" if kind == "dsb" else "non-commercial"})
    for number in range(2):
        cv2.imwrite(
            str(permissive / "backgrounds" / f"{number}.jpg"), rng.integers(0, 255, (90, 140, 3)).astype(np.uint8)
        )
        thing = np.zeros((60, 60, 4), np.uint8)
        cv2.circle(thing, (30, 30), 25, (10, 200, 60 + 90 * number, 255), -1)
        cv2.imwrite(str(permissive / "cutouts" / f"{number}.png"), thing)
        rows["backgrounds"].append({"image": f"{number}.jpg"})
        rows["cutouts"].append({"image": f"{number}.png"})
    for name, content in rows.items():
        write(permissive / f"{name}.csv", content)
    write(root / "index.csv", free)
    return root


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
