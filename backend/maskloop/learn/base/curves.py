"""The curves of a training run, from its log."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

Values = NDArray[np.float64]


def draw_training(log: Path, path: Path) -> None:
    """Loss, and IoU after the first, second and third prompt, over hours of training; one line of ``log`` a point."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, key, title in ((left, "loss", "loss"), (right, "iou", "mean IoU on training views")):
        for turn in (1, 2, 3):
            seen = [row for row in rows if f"{key}{turn}" in row]
            if seen:
                values = np.array([row[f"{key}{turn}"] for row in seen])
                axes.plot([row["seconds"] / 3600 for row in seen], _smooth(values), label=f"prompt {turn}")
        axes.set(xlabel="hours", title=title)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _smooth(values: Values, reach: int = 4) -> Values:
    """The mean of each value and its neighbours, at most ``reach`` on either side."""
    return np.array([values[max(0, i - reach) : i + reach + 1].mean() for i in range(len(values))])
