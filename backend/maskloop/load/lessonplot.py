"""What ``maskloop bench learning`` found, for the terminal and as curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def table(found: dict[str, Any]) -> Any:
    """The figures for a terminal."""
    from rich.table import Table

    shown = Table("", "base", "learned")
    shown.add_row("clicks to 85 %, unseen images", f"{found['noc85_base']:.2f}", f"{found['noc85_learned']:.2f}")
    shown.add_row("IoU after one click", f"{found['iou1_base']:.3f}", f"{found['iou1_learned']:.3f}")
    shown.add_row("clicks to 85 %, fitting proposals taken", "", f"{found['clicks_after_proposals']:.2f}")
    shown.add_row("clicks to 85 %, other things", *(f"{found[f'others_noc85_{k}']:.2f}" for k in ("base", "learned")))
    shown.add_row("objects proposed with IoU >= 0.85", "", f"{found['preannotated_share']:.0%}")
    shown.add_row("longest training, seconds", "", f"{found['training_seconds']:.0f}")
    return shown


def draw(found: dict[str, Any], file: Path) -> None:
    """Clicks per object and proposed IoU over the submitted images."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    curve = found["curve"]
    x = [row["image"] for row in curve]
    for key, words in (("clicks", "with learning"), ("clicks_base", "without")):
        if curve and key in curve[0]:
            left.plot(x, smoothed([row[key] for row in curve]), label=words)
    left.set(title="clicks per object to IoU 0.85", xlabel="submitted images", ylim=(0, None))
    left.legend()
    right.plot(x, smoothed([row["proposed_iou"] for row in curve]))
    right.set(title="IoU of the best proposal, before any click", xlabel="submitted images", ylim=(0, 1))
    for axes in (left, right):
        for row in curve:
            if row["trained"]:
                axes.axvline(row["image"], color="lightgrey", zorder=0)
    figure.savefig(file, dpi=110)


def smoothed(values: Sequence[float], width: int = 5) -> list[float]:
    return [sum(part) / len(part) for part in (values[max(0, k - width + 1) : k + 1] for k in range(len(values)))]
