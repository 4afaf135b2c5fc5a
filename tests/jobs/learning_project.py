"""A small project to learn from: bright discs on a noisy ground, submitted as a person would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from maskloop.jobs.attempt import environment
from maskloop.labelstudio import rle
from maskloop.ledger import Ledger, Region, Submission
from maskloop.segment.prompt import Mask
from maskloop.settings import Settings

PROJECT = 1
CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image" smart="false"><Label value="Disc"/></BrushLabels></View>"""


def settings(folder: Path, **more: object) -> Settings:
    """Settings with everything in ``folder``: data, and images that tasks name by path."""
    values = {"data_dir": folder / "data", "local_files_root": folder / "images", "train_minutes": 0.25, **more}
    return Settings(**values)  # type: ignore[arg-type]


def submit(folder: Path, ledger: Ledger, count: int, first: int = 1) -> None:
    """``count`` images with two discs each, drawn and submitted."""
    (folder / "images").mkdir(exist_ok=True)
    ledger.record_project(PROJECT, CONFIG)
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        pixels = rng.normal(90, 18, (96, 128, 3))
        masks: list[Mask] = []
        for middle in (36, 92):
            x, y, radius = middle + rng.integers(-6, 7), rng.integers(34, 62), rng.integers(12, 20)
            rows, columns = np.mgrid[:96, :128]
            masks.append(np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2))
            pixels[masks[-1]] += 70
        path = folder / "images" / f"{number}.png"
        cv2.imwrite(str(path), np.clip(pixels, 0, 255).astype(np.uint8))
        regions = tuple(Region(f"r{k}", "brushlabels", "Disc", 128, 96, rle=rle.encode(m)) for k, m in enumerate(masks))
        ledger.record_submission(Submission(PROJECT, number, number, "2026-11-23T10:00:00Z", str(path), regions))


def left_behind(of: Settings, code: str) -> int:
    """A process that another one starts, which is killed then: the number that ``code`` puts into ``child``."""
    code += "; print(child, flush=True); import time; time.sleep(600)"
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment(of), stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    return child
