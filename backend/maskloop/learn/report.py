"""The report of one training, written into the version's folder: numbers, curves, before and after, data used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maskloop.learn.gate import Change, Verdict
from maskloop.learn.samples import LeftOut
from maskloop.segment.prompt import Image, Mask, Point

REPORT = "report.json"
TEXT = "report.md"


@dataclass(frozen=True, eq=False)
class BeforeAfter:
    """One held-out object with one click: the mask of the current version and that of the candidate."""

    pixels: Image
    truth: Mask
    click: Point
    before: Mask
    after: Mask
    iou_before: float
    iou_after: float


@dataclass(frozen=True)
class Report:
    """Everything worth knowing about a training afterwards. ``used`` maps a part to (content hash, task, objects).

    ``taught_from`` is the base where it began with that because the current version grew from an earlier one.
    """

    project: int
    training: int
    started_from: str
    base: str
    seed: int
    seconds: float
    steps: int
    verdict: Verdict
    curve: Sequence[tuple[int, float, float, float]]
    used: Mapping[str, Sequence[tuple[str, int, int]]]
    left_out: Sequence[LeftOut]
    submissions: Sequence[tuple[int, str]]
    proposals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    taught_from: str = ""


@dataclass(frozen=True)
class Outcome:
    """What there is to say about a training that made no version; ``detail`` is shown as it is."""

    project: int
    training: int
    state: str
    reason: str
    left_out: Sequence[LeftOut] = ()
    detail: str = ""


def write_outcome(folder: Path, outcome: Outcome) -> Path:
    """``report.json`` and ``report.md`` of a training that made no version; the latter's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / REPORT).write_text(json.dumps(asdict(outcome), indent=1) + "\n")
    lines = [
        f"# Training {outcome.training} of project {outcome.project}: {outcome.state}",
        "",
        _cell(outcome.reason),
        *_left_out(outcome.left_out),
    ]
    if outcome.detail:
        lines += ["", "```", outcome.detail.rstrip(), "```"]
    return _write_text(folder / TEXT, "\n".join(lines) + "\n")


def write(folder: Path, version: str, report: Report, sheet: Sequence[BeforeAfter]) -> None:
    """``report.json``, ``report.md``, ``curve.png`` and ``sheet.png``."""
    (folder / REPORT).write_text(json.dumps({"version": version, **asdict(report)}, indent=1) + "\n")
    _write_text(folder / TEXT, text(version, report, bool(sheet)))
    _curve(folder / "curve.png", report.curve)
    if sheet:
        _sheet(folder / "sheet.png", sheet)


def read(folder: Path) -> dict[str, Any]:
    """The numbers of a version's report; empty when it has none."""
    try:
        found: dict[str, Any] = json.loads((folder / REPORT).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def text(version: str, report: Report, has_sheet: bool) -> str:
    """The report as Markdown."""
    verdict, start = report.verdict, report.taught_from or report.started_from
    lines = [
        f"# {version}",
        "",
        f"Project {report.project}, training {report.training}. Started from `{start}`, base "
        f"`{report.base}`; {report.steps} steps in {report.seconds:.0f} s, seed {report.seed}.",
        "",
        f"**{'Passed the gate' if verdict.promote else 'Did not pass the gate'}**: {'; '.join(verdict.reasons)}.",
        "",
        f"Hold-out: {verdict.objects} objects on {verdict.images} images, never trained on.",
        "",
    ]
    for title, changes in (("current", verdict.against_current), ("base", verdict.against_base)):
        if changes:
            lines += [f"| against {title} | before | after | interval of the difference |", "|---|---|---|---|"]
            lines += [_row(change.metric, change) for change in changes] + [""]
    if verdict.against_current:
        lines += [
            "Intervals are of 95 %, that of the effort of 90 %. The effort is the mean of clicks to 85 and 90 %, of "
            "10, and of the errors (1 - IoU) after one and three clicks.",
            "",
        ]
    if verdict.labels:
        lines += ["| label (clicks to 85 %) | before | after | 95 % interval |", "|---|---|---|---|"]
        lines += [_row(label, change) for label, change in verdict.labels.items()] + [""]
    if report.proposals:
        lines += ["| pre-annotation | live | floor | precision | recall | why |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {_cell(label)} | {'yes' if p['live'] else 'no'} | {p['floor']:.2f} | {p['precision']:.2f} "
            f"| {p['recall']:.2f} | {_cell(p['why'])} |"
            for label, p in report.proposals.items()
        ] + [""]
    lines += ["![curve](curve.png)", ""]
    if has_sheet:
        lines += ["Held-out objects after one click, before (left) and after (right):", "", "![sheet](sheet.png)", ""]
    lines += ["## Data", ""]
    for part, images in report.used.items():
        lines.append(f"* {part}: {len(images)} images, {sum(count for _, _, count in images)} objects")
    lines += ["", "| part | task | objects | content hash |", "|---|---|---|---|"]
    lines += [
        f"| {part} | {task} | {count} | `{content[:16]}` |"
        for part, images in report.used.items()
        for content, task, count in images
    ]
    lines += _left_out(report.left_out)
    return "\n".join(lines) + "\n"


def _row(name: str, change: Change) -> str:
    return f"| {_cell(name)} | {change.first:.3f} | {change.second:.3f} | {change.low:+.3f} to {change.high:+.3f} |"


def _left_out(left_out: Sequence[LeftOut]) -> list[str]:
    if not left_out:
        return []
    rows = [f"| {left.annotation} | {_cell(left.region or '')} | {_cell(left.reason)} |" for left in left_out]
    return ["", "## Left out", "", "| annotation | region | why |", "|---|---|---|", *rows]


def _cell(text: str) -> str:
    """A text from outside as part of a line: ids and labels may hold anything."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _write_text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", errors="replace")
    return path


def _curve(path: Path, curve: Sequence[tuple[int, float, float, float]]) -> None:
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    steps = [row[0] for row in curve]
    axes[0].plot(steps[1:], [row[1] for row in curve[1:]], color="tab:red")
    axes[0].set(title="training loss", xlabel="step")
    axes[1].plot(steps, [row[2] for row in curve], label="1 click", marker=".")
    axes[1].plot(steps, [row[3] for row in curve], label="3 clicks", marker=".")
    axes[1].set(title="validation IoU", xlabel="step")
    axes[1].legend()
    figure.savefig(path, dpi=90)


def _sheet(path: Path, sheet: Sequence[BeforeAfter]) -> None:
    shown = sheet[:8]
    figure = Figure(figsize=(6, 3 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(shown), 2, squeeze=False)
    for row, item in zip(axes, shown, strict=True):
        rows, columns = _around(item.truth)
        for cell, mask, value in zip(row, (item.before, item.after), (item.iou_before, item.iou_after), strict=True):
            cell.imshow(_overlay(item.pixels, mask, item.truth))
            cell.set(xlim=(columns[0], columns[1]), ylim=(rows[1], rows[0]))
            cell.plot(item.click.x, item.click.y, "o", color="lime", markeredgecolor="black", markersize=5)
            cell.set(title=f"IoU {value:.2f}", xticks=[], yticks=[])
    figure.savefig(path, dpi=80)


def _around(truth: Mask) -> tuple[tuple[float, float], tuple[float, float]]:
    """The rows and the columns to show: the object and its surroundings."""
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    reach = 0.75 * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) + 10
    (height, width), middle = truth.shape, ((rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2)
    top, left = max(middle[0] - reach, 0), max(middle[1] - reach, 0)
    return (top, min(middle[0] + reach, height)), (left, min(middle[1] + reach, width))


def _overlay(pixels: Image, mask: Mask, truth: Mask) -> Image:
    seen = pixels.astype(np.float32)
    seen[mask] = 0.5 * seen[mask] + np.array([128, 32, 32], np.float32)
    outline = truth & (cv2.erode(truth.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)
    seen[outline] = (255, 255, 0)
    return np.clip(seen, 0, 255).astype(np.uint8)
