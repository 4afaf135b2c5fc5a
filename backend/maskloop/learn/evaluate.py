"""The field's examination of a click model: simulated clicks until the mask fits, and what they cost.

NoC@85 is the mean number of clicks until IoU 0.85, at most 20 (an object that never gets
there counts 20 and is a failure); mIoU@k the mean IoU after k clicks. The annotator stops at
IoU 0.90, and the IoU reached then stands for later clicks, as in RITM (Sofiiuk et al. 2021).
"""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.stats import spearmanr

from maskloop.learn.clicks import next_click
from maskloop.segment.prompt import Box, Image, Mask, Point, Prompt
from maskloop.segment.segmenter import Embedding, Segmenter

MOST_CLICKS = 20
TARGETS = (0.85, 0.90)
SHOWN = (1, 3, 5, 10)
BINS = 10
"""Of the reliability table, equally wide over predicted IoU from 0 to 1."""


@dataclass(frozen=True)
class Object:
    """One thing to segment: its image, the mask file (255 object, 128 ignored) and the data set it is from."""

    source: str
    image: Path
    mask: Path

    def truth(self) -> tuple[Mask, Mask]:
        """The object's mask and the pixels to leave out, H x W each. Raises ValueError if it cannot be read."""
        grey = cv2.imread(str(self.mask), cv2.IMREAD_GRAYSCALE)
        if grey is None:
            raise ValueError(f"cannot read the mask {self.mask}")
        wanted: Mask = grey > 200
        ignored: Mask = (grey > 50) & ~wanted
        return wanted, ignored


@dataclass(frozen=True)
class Session:
    """One object clicked to the end: IoU and predicted IoU after each click, seconds of each, and a box alone."""

    object: Object
    ious: tuple[float, ...]
    scores: tuple[float, ...]
    seconds: tuple[float, ...]
    encoding: float
    box: float
    boxed: tuple[float, ...]
    """IoU after a perfect box, and then after each click on top of it."""

    def after(self, clicks: int) -> float:
        return self.ious[min(clicks, len(self.ious)) - 1]

    def needed(self, target: float) -> int:
        """Clicks until the IoU reaches ``target``, MOST_CLICKS if it never does."""
        return next((n for n, iou in enumerate(self.ious, 1) if iou >= target), MOST_CLICKS)

    def failed(self, target: float) -> bool:
        return max(self.ious) < target


def objects(data: Path, split: str = "eval", sources: Sequence[str] = ()) -> list[Object]:
    """The objects of a folder: by its ``index.csv`` (or its parent's), else ``masks/<image>[_k].png`` to ``images/``.

    Raises ValueError when there are none.
    """
    root = data / split if (data / split / "images").is_dir() else data
    index = next((path for path in (root / "index.csv", root.parent / "index.csv") if path.is_file()), None)
    pairs = [(row["dataset"], row["image"], row["mask"]) for row in _rows(index, split)] if index else _paired(root)
    found = [
        Object(source, root / "images" / image, root / "masks" / mask)
        for source, image, mask in pairs
        if not sources or source in sources
    ]
    if pairs and not found:
        known = ", ".join(sorted({source for source, _, _ in pairs}))
        raise ValueError(f"no objects of {', '.join(sources)} in {root}, whose data sets are {known}")
    if not found:
        also = f" with rows of the split {split!r}" if index else ""
        raise ValueError(f"no objects in {root}: it needs images/ and masks/, and index.csv{also} or equal names")
    return found


def evaluate(
    segmenter: Segmenter,
    chosen: Sequence[Object],
    report: Callable[[int, Session], None] = lambda done, session: None,
    clicks: int = MOST_CLICKS,
    boxes: bool = True,
) -> list[Session]:
    """Click every object to the end. ``report`` hears of each when it is done."""
    sessions: list[Session] = []
    path, embedding, encoding = Path(), None, 0.0
    for entry in chosen:
        if embedding is None or entry.image != path:
            pixels = read_image(entry.image)
            started = time.perf_counter()
            embedding = segmenter.encode(pixels)
            path, encoding = entry.image, time.perf_counter() - started
        sessions.append(_clicked(segmenter, embedding, entry, encoding, clicks, boxes))
        report(len(sessions), sessions[-1])
    return sessions


def read_image(path: Path) -> Image:
    """An image as H x W x 3 uint8 RGB. Raises ValueError if it cannot be read."""
    read = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if read is None:
        raise ValueError(f"cannot read the image {path}")
    return cv2.cvtColor(read, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _clicked(
    segmenter: Segmenter, embedding: Embedding, entry: Object, encoding: float, clicks: int, boxes: bool
) -> Session:
    truth, ignored = entry.truth()
    ious, scores, seconds = [], [], []
    for iou, score, second in _correct(segmenter, embedding, truth, ignored, Prompt(), clicks):
        ious.append(iou)
        scores.append(score)
        seconds.append(second)
    boxed: tuple[float, ...] = ()
    if boxes:
        start = Prompt(box=tight_box(truth))
        answer = segmenter.decode(embedding, start).mask
        first = overlap(answer, truth, ignored)
        boxed = (first, *(i for i, _, _ in _correct(segmenter, embedding, truth, ignored, start, 5, answer, first)))
    return Session(entry, tuple(ious), tuple(scores), tuple(seconds), encoding, boxed[0] if boxed else 0.0, boxed)


def _correct(
    segmenter: Segmenter,
    embedding: Embedding,
    truth: Mask,
    ignored: Mask,
    start: Prompt,
    clicks: int,
    mask: Mask | None = None,
    reached: float = 0.0,
) -> Iterator[tuple[float, float, float]]:
    """IoU, predicted IoU and seconds of each correcting click, until the mask fits or nothing is left to click."""
    mask = np.zeros_like(truth) if mask is None else mask
    points: tuple[Point, ...] = ()
    while len(points) < clicks and reached < max(TARGETS):
        click = next_click(mask, truth, ignored, points)
        if click is None:
            return
        points = (*points, click)
        started = time.perf_counter()
        answer = segmenter.decode(embedding, Prompt(points, start.box))
        second = time.perf_counter() - started
        mask, reached = answer.mask, overlap(answer.mask, truth, ignored)
        yield reached, answer.score, second


def tight_box(mask: Mask) -> Box:
    """The box around a mask. Raises ValueError for an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        raise ValueError("an empty mask has no box")
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def overlap(mask: Mask, truth: Mask, ignored: Mask) -> float:
    """Intersection over union outside ``ignored``; 1 when both are empty."""
    either = int(((mask | truth) & ~ignored).sum())
    return int((mask & truth & ~ignored).sum()) / either if either else 1.0


def figures(sessions: Sequence[Session]) -> dict[str, float]:
    """A set of sessions in numbers: NoC, failures, mIoU after SHOWN clicks, boxes, seconds, calibration of scores."""
    result: dict[str, float] = {"objects": len(sessions)}
    for target in TARGETS:
        name = f"{target * 100:.0f}"
        result[f"noc{name}"] = _mean(s.needed(target) for s in sessions)
        result[f"fail{name}"] = _mean(s.failed(target) for s in sessions)
    result |= {f"miou{k}": _mean(s.after(k) for s in sessions) for k in SHOWN}
    boxed = [s.boxed for s in sessions if s.boxed]
    if boxed:
        result["box"] = _mean(ious[0] for ious in boxed)
        result |= {f"box_click{k}": _mean(ious[min(k, len(ious) - 1)] for ious in boxed) for k in (1, 3)}
    result["click_seconds"] = float(np.median([second for s in sessions for second in s.seconds]))
    result["encode_seconds"] = float(np.median([s.encoding for s in sessions]))
    scores = [score for s in sessions for score in s.scores]
    ious = [iou for s in sessions for iou in s.ious]
    result["calibration_error"] = sum(row[3] * abs(row[1] - row[2]) for row in reliability(sessions)) / max(
        len(ious), 1
    )
    if len(set(scores)) > 1 and len(set(ious)) > 1:
        result["rank_correlation"] = float(spearmanr(scores, ious).statistic)
    return {name: round(value, 4) for name, value in result.items()}


def by_source(sessions: Sequence[Session]) -> dict[str, dict[str, float]]:
    """:func:`figures` of each source, and of all of them as ``all``."""
    groups: dict[str, list[Session]] = defaultdict(list)
    for session in sessions:
        groups[session.object.source].append(session)
    return {**{source: figures(group) for source, group in groups.items()}, "all": figures(sessions)}


def reliability(sessions: Sequence[Session]) -> list[tuple[float, float, float, int]]:
    """For each bin of predicted IoU that is not empty: its lower end, mean predicted, mean true IoU, answers."""
    pairs = np.array([pair for s in sessions for pair in zip(s.scores, s.ious, strict=True)]).reshape(-1, 2)
    bins = np.clip((pairs[:, 0] * BINS).astype(int), 0, BINS - 1)
    rows = []
    for index in range(BINS):
        inside = pairs[bins == index]
        if len(inside):
            rows.append((index / BINS, float(inside[:, 0].mean()), float(inside[:, 1].mean()), len(inside)))
    return rows


def spaced(entries: Sequence[Object], limit: int) -> list[Object]:
    """``limit`` of the objects, evenly spaced so that every source keeps its share; all when there are fewer."""
    if limit <= 0 or limit >= len(entries):
        return list(entries)
    return [entries[int(i)] for i in np.linspace(0, len(entries) - 1, limit).round()]


def _mean(values: Iterable[float]) -> float:
    return float(np.mean([float(value) for value in values]))


def _rows(index: Path, split: str) -> list[dict[str, str]]:
    with index.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row.get("split", split) == split]


def _paired(root: Path) -> list[tuple[str, str, str]]:
    images = {path.stem: path.name for path in sorted((root / "images").glob("*")) if path.is_file()}
    pairs = []
    for mask in sorted((root / "masks").glob("*.png")):
        stem = mask.stem if mask.stem in images else mask.stem.rpartition("_")[0]
        if stem in images:
            pairs.append((stem.partition("_")[0] if "_" in stem else root.name, images[stem], mask.name))
    return pairs
