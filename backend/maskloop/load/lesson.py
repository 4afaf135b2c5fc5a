"""One run of ``maskloop bench learning``: a server of its own, an annotator, and the comparison afterwards."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import requests

from maskloop.demo.process import free_port
from maskloop.learn.evaluate import overlap
from maskloop.ledger import Ledger
from maskloop.load import material
from maskloop.load.rehearsal import ENOUGH, MOST_CLICKS, Annotator, Picture, pictures
from maskloop.segment.prompt import Mask

LEARNING, BASE = 1, 2
"""Projects: one learns, the other never does, so the base answers there."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Clicked:
    """One object: clicks to IoU 0.85, and the IoU after the first of them."""

    needed: float
    first: float


@dataclass(frozen=True)
class Lesson:
    """What to do; the options of the command."""

    data: Path
    images: int = 40
    only: str = ""
    others: Path | None = None
    unseen: int = 20
    per_image: int = 3
    every: int = 20
    active: bool = False
    without: bool = True


def run(lesson: Lesson, say: Say) -> dict[str, Any]:
    """All figures. Raises ValueError when the folder has too little."""
    domain = material.objects_of(lesson.data, [lesson.only] if lesson.only else [])
    found = pictures(domain, lesson.per_image)
    aside = min(lesson.unseen, max(1, len(found) // 3))
    pool, unseen = found[:-aside], found[-aside:]
    if len(pool) < 4:
        raise ValueError(f"{lesson.data} has {len(found)} images: too few to learn from")
    with tempfile.TemporaryDirectory(prefix="maskloop-bench-") as scratch:
        root = Path(scratch)
        others = material.others(lesson.data, lesson.others, domain, lesson.unseen, root)
        others = material.copied(others, root / "images" / "others")
        pool, unseen = (material.copied(part, root / "images" / "domain") for part in (pool, unseen))
        with (
            _server(root) as url,
            contextlib.closing(Ledger(f"sqlite:///{root}/data/ledger.sqlite3")) as ledger,
        ):
            curve = _annotate(lesson, url, ledger, pool, say)
            say("comparing on images nobody has seen")
            base, learned = Annotator(url, BASE), Annotator(url, LEARNING)
            before, after = _clicks(base, unseen), _clicks(learned, unseen)
            proposed = _proposed(learned, unseen)
            other_before, other_after = _clicks(base, others), _clicks(learned, others)
            trainings = [t for t in reversed(ledger.trainings(LEARNING)) if t.started_at and t.finished_at]
    lengths = [float(t.finished_at or 0) - float(t.started_at or 0) for t in trainings]
    return {
        "noc85_base": _mean([c.needed for c in before]),
        "noc85_learned": _mean([c.needed for c in after]),
        "iou1_base": _mean([c.first for c in before]),
        "iou1_learned": _mean([c.first for c in after]),
        "others_noc85_base": _mean([c.needed for c in other_before]),
        "others_noc85_learned": _mean([c.needed for c in other_after]),
        "preannotated_share": _mean([float(value >= ENOUGH) for value in proposed]),
        "clicks_after_proposals": _mean(
            [0.0 if value >= ENOUGH else c.needed for value, c in zip(proposed, after, strict=True)]
        ),
        "training_seconds": max(lengths, default=0.0),
        "images": len(curve),
        "unseen_images": len(unseen),
        "unseen_objects": len(before),
        "other_objects": len(other_before),
        "order": "active" if lesson.active else "random",
        "curve": curve,
        "trainings": [
            {"state": t.state.value, "seconds": s, "version": t.version, "note": t.note}
            for t, s in zip(trainings, lengths, strict=True)
        ],
    }


def _annotate(lesson: Lesson, url: str, ledger: Ledger, pool: Sequence[Picture], say: Say) -> list[dict[str, Any]]:
    annotator, other = Annotator(url, LEARNING), Annotator(url, BASE)
    left = list(pool)
    curve: list[dict[str, Any]] = []
    most = min(lesson.images, len(pool))
    while len(curve) < most:
        picture = _next(annotator, left) if lesson.active else left[0]
        left.remove(picture)
        masks, _ = annotator.look(picture)
        worked = annotator.work(picture, masks)
        annotator.submit(picture, worked, datetime.now(timezone.utc).isoformat())
        row: dict[str, Any] = {
            "image": len(curve) + 1,
            "clicks": _mean([w.clicks for w in worked]),
            "proposed_iou": _mean([w.proposed for w in worked]),
            "trained": False,
        }
        if lesson.without:
            row["clicks_base"] = _mean([c.needed for c in _clicks(other, [picture])])
        curve.append(row)
        say(f"image {row['image']}: {row['clicks']:.1f} clicks per object, proposed IoU {row['proposed_iou']:.2f}")
        if len(curve) % lesson.every == 0 or len(curve) == most:
            # A person is slower than this annotator: what they submitted is learned before they come to the next.
            row["trained"] = True
            annotator.train()
            say(_wait(ledger))
    return curve


def _next(annotator: Annotator, left: Sequence[Picture]) -> Picture:
    """Of the next few images the one the model knows least; the first while nothing is known."""
    scores = [(annotator.look(picture)[1], picture) for picture in left[:8]]
    known = [(score, picture.task, picture) for score, picture in scores if score is not None]
    return min(known)[2] if known else left[0]


def _wait(ledger: Ledger) -> str:
    while True:
        trainings = ledger.trainings(LEARNING, 5)
        if trainings and all(training.state.final for training in trainings):
            return f"training {trainings[0].id}: {trainings[0].state.value}; {trainings[0].note}"
        time.sleep(1)


def _clicks(annotator: Annotator, shown: Sequence[Picture]) -> list[Clicked]:
    found = []
    for picture in shown:
        for truth, ignored in _truths(picture):
            steps = list(annotator.correct(picture, truth, ignored, until=ENOUGH))
            reached = bool(steps) and steps[-1][1] >= ENOUGH
            found.append(Clicked(float(len(steps) if reached else MOST_CLICKS), steps[0][1] if steps else 0.0))
    return found


def _proposed(annotator: Annotator, shown: Sequence[Picture]) -> list[float]:
    """For every object the IoU of the proposal that fits it best."""
    best = []
    for picture in shown:
        masks, _ = annotator.look(picture)
        for truth, ignored in _truths(picture):
            best.append(max((overlap(mask, truth, ignored) for mask in masks), default=0.0))
    return best


def _truths(picture: Picture) -> Iterator[tuple[Mask, Mask]]:
    """The objects of a picture: what is inside, and what is left out of the IoU."""
    for one in picture.objects:
        truth, ignored = one.truth()
        if truth.any():
            yield truth, ignored


@contextlib.contextmanager
def _server(root: Path) -> Iterator[str]:
    """A server on a free port with empty data, that trains when it is asked to."""
    port = free_port()
    environment = {
        **{
            k: v for k, v in os.environ.items() if not k.startswith(("BASIC_AUTH", "LABEL_STUDIO", "REDIS", "DATABASE"))
        },
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "MASKLOOP_DATA_DIR": str(root / "data"),
        "MASKLOOP_LOCAL_FILES_ROOT": str(root / "images"),
        "MASKLOOP_TRAIN_AFTER": "1000000",
        "MASKLOOP_TRAIN_COOLDOWN_SECONDS": "0",
        "MASKLOOP_DEADLINE_SECONDS": "60",
        "LOG_LEVEL": "WARNING",
    }
    process = subprocess.Popen([sys.executable, "-m", "maskloop", "serve"], env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            if process.poll() is not None:
                raise ValueError("the server did not start; see its log above")
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"{url}/ready", timeout=5).status_code == 200:
                    break
            time.sleep(0.3)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0
