"""Pictures of an evaluation: IoU by clicks, reliability of the scores, and the worst cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from maskloop.learn.clicks import next_click
from maskloop.learn.evaluate import Session, read_image, reliability
from maskloop.segment.prompt import Image, Mask, Point, Prompt
from maskloop.segment.segmenter import Segmenter

TILE = 220


def draw_curves(models: Mapping[str, Sequence[Session]], path: Path) -> None:
    """Mean IoU after 1 to 10 clicks of each model (each source, when there is one model), and reliability."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    clicks = np.arange(1, 11)
    lines: dict[str, Sequence[Session]] = dict(models)
    if len(models) == 1:
        groups: dict[str, list[Session]] = defaultdict(list)
        for session in next(iter(models.values())):
            groups[session.object.source].append(session)
        lines |= groups
    for name, sessions in lines.items():
        means = [np.mean([s.after(int(k)) for s in sessions]) for k in clicks]
        left.plot(clicks, means, marker="o", ms=3, lw=2 if name in models else 1, label=f"{name} ({len(sessions)})")
    left.set(xlabel="clicks", ylabel="mean IoU", ylim=(0, 1), xticks=clicks)
    left.grid(alpha=0.3)
    left.legend(fontsize=8)
    right.plot([0, 1], [0, 1], color="0.7", lw=1)
    for name, sessions in models.items():
        rows = np.array(reliability(sessions)).reshape(-1, 4)
        right.plot(rows[:, 1], rows[:, 2], marker="o", ms=3, label=name)
    right.set(xlabel="predicted IoU", ylabel="true IoU", xlim=(0, 1), ylim=(0, 1))
    right.grid(alpha=0.3)
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def draw_worst(segmenter: Segmenter, sessions: Sequence[Session], path: Path, count: int = 12) -> None:
    """A sheet of the objects with the lowest IoU after three clicks: truth in white, answer in red, clicks."""
    tiles = []
    for session in sorted(sessions, key=lambda s: s.after(3))[:count]:
        image = read_image(session.object.image)
        truth, ignored = session.object.truth()
        embedding, mask = segmenter.encode(image), np.zeros_like(truth)
        points: tuple[Point, ...] = ()
        for _ in range(3):
            click = next_click(mask, truth, ignored, points)
            if click is None:
                break
            points = (*points, click)
            mask = segmenter.decode(embedding, Prompt(points)).mask
        tiles.append(_tile(image, truth, mask, points, session))
    rows = [
        np.hstack(tiles[i : i + 4] + [np.zeros_like(tiles[0])] * (4 - len(tiles[i : i + 4])))
        for i in range(0, len(tiles), 4)
    ]
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def _tile(image: Image, truth: Mask, mask: Mask, points: Sequence[Point], session: Session) -> Image:
    scale = TILE / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    for shown, ink in ((mask, (255, 40, 40)), (truth, (255, 255, 255))):
        outline = cv2.resize(shown.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(outline, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(small, contours, -1, ink, 1)
    for point in points:
        ink = (60, 255, 60) if point.positive else (60, 60, 255)
        cv2.circle(small, (int(point.x * scale), int(point.y * scale)), 3, ink, -1)
    tile: Image = np.zeros((TILE, TILE, 3), np.uint8)
    tile[: size[1], : size[0]] = small
    cv2.putText(tile, f"{session.after(3):.2f}", (4, TILE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 0), 1)
    return tile
