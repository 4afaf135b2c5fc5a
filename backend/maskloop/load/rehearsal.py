"""A data set worked through as an annotator would, over HTTP: look, accept, correct with clicks, submit."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests

from maskloop.labelstudio import rle
from maskloop.learn.clicks import next_click
from maskloop.learn.evaluate import Object, overlap
from maskloop.segment.prompt import Mask, Point

LABEL = "Object"
CONFIG = f"""<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image" smart="false"><Label value="{LABEL}"/></BrushLabels>
<KeyPointLabels name="point" toName="image" smart="true"><Label value="{LABEL}"/></KeyPointLabels>
<RectangleLabels name="box" toName="image" smart="true"><Label value="{LABEL}"/></RectangleLabels></View>"""
ENOUGH = 0.85
CAREFUL = 0.90
MOST_CLICKS = 20


@dataclass(frozen=True)
class Picture:
    """One image of the data set with its objects; ``task`` is its id in the pretended Label Studio."""

    task: int
    path: Path
    objects: tuple[Object, ...]


@dataclass(frozen=True)
class Worked:
    """What one object took: clicks to IoU 0.85, the best proposed IoU before any click, and the final mask."""

    clicks: int
    proposed: float
    mask: Mask
    version: str


def pictures(objects: Sequence[Object], per_image: int) -> list[Picture]:
    """Images in an order that has nothing to do with their content, each with at most ``per_image`` objects."""
    by_image: dict[Path, list[Object]] = {}
    for one in objects:
        by_image.setdefault(one.image, []).append(one)
    paths = sorted(by_image, key=lambda path: hashlib.sha256(path.name.encode()).hexdigest())
    return [Picture(number + 1, path, tuple(by_image[path][:per_image])) for number, path in enumerate(paths)]


class Annotator:
    """Works on tasks of one project of a running server."""

    def __init__(self, url: str, project: int) -> None:
        self._url = url
        self._project = project
        self._session = requests.Session()
        self._numbers = itertools.count(1)

    def look(self, picture: Picture) -> tuple[list[Mask], float | None]:
        """Open a task: the masks that are proposed, and the prediction's score if there is one."""
        entry = self._predict(picture, None)
        if not isinstance(entry, dict):
            return [], None
        return [_mask(region) for region in entry["result"]], float(entry["score"])

    def correct(
        self, picture: Picture, truth: Mask, ignored: Mask, until: float = CAREFUL, most: int = MOST_CLICKS
    ) -> Iterator[tuple[Mask, float, str]]:
        """Click an object until it fits; mask, IoU and version after each click."""
        mask: Mask = np.zeros_like(truth)
        points: tuple[Point, ...] = ()
        reached = 0.0
        start = next(self._numbers)
        while len(points) < most and reached < until:
            point = next_click(mask, truth, ignored, points)
            if point is None:
                return
            points = (*points, point)
            regions = [_key_point(f"{start}-{n}", p, truth.shape) for n, p in enumerate(points)]
            entry = self._predict(picture, {"result": regions})
            mask = _mask(entry["result"][0]) if entry["result"] else np.zeros_like(truth)
            reached = overlap(mask, truth, ignored)
            yield mask, reached, entry["model_version"]

    def work(self, picture: Picture, proposals: Sequence[Mask]) -> list[Worked]:
        """All objects of a task: a proposed mask that fits is taken, everything else is clicked to IoU 0.9."""
        done = []
        for one in picture.objects:
            truth, ignored = one.truth()
            if not truth.any():
                continue
            fits = max(((overlap(p, truth, ignored), n) for n, p in enumerate(proposals)), default=(0.0, -1))
            if fits[0] >= ENOUGH:
                done.append(Worked(0, fits[0], proposals[fits[1]], ""))
                continue
            steps = list(self.correct(picture, truth, ignored))
            needed = next((n for n, (_, iou, _) in enumerate(steps, 1) if iou >= ENOUGH), MOST_CLICKS)
            # What clicks cannot reach is drawn by hand.
            mask = steps[-1][0] if steps and steps[-1][1] >= CAREFUL else truth
            done.append(Worked(needed, fits[0], mask, steps[-1][2] if steps else ""))
        return done

    def submit(self, picture: Picture, worked: Sequence[Worked], at: str) -> None:
        """Submit the task's masks, as Label Studio's webhook tells it."""
        regions = [
            {
                "id": f"r{number}", "type": "brushlabels", "from_name": "brush", "to_name": "image", "origin": "manual",
                "original_width": one.mask.shape[1], "original_height": one.mask.shape[0], "image_rotation": 0,
                "value": {"format": "rle", "rle": list(rle.encode(one.mask)), "brushlabels": [LABEL]},
            }
            for number, one in enumerate(worked)
        ]  # fmt: skip
        annotation = {
            "id": picture.task, "task": picture.task, "project": self._project, "result": regions, "completed_by": 1,
            "was_cancelled": False, "ground_truth": False, "created_at": at, "updated_at": at, "lead_time": 1.0,
        }  # fmt: skip
        event = {
            "action": "ANNOTATION_CREATED",
            "annotation": annotation,
            "task": {"id": picture.task, "data": {"image": str(picture.path)}},
            "project": {"id": self._project, "label_config": CONFIG},
        }
        self._session.post(f"{self._url}/webhook", json=event, timeout=30).raise_for_status()

    def train(self) -> None:
        """Ask for a training now."""
        self._session.post(f"{self._url}/train", json={"project": self._project}, timeout=30).raise_for_status()

    def _predict(self, picture: Picture, context: dict[str, Any] | None) -> Any:
        task = {
            "id": picture.task, "project": self._project, "data": {"image": str(picture.path)},
            "annotations": [], "predictions": [], "drafts": [],
        }  # fmt: skip
        body = {
            "tasks": [task],
            "project": f"{self._project}.1",
            "label_config": CONFIG,
            "params": {"context": context},
        }
        for _ in range(3):
            answer = self._session.post(f"{self._url}/predict", json=body, timeout=120)
            if answer.status_code != 503:  # busy: the server asks to be called again
                break
        answer.raise_for_status()
        return answer.json()["results"][0]


def _mask(region: dict[str, Any]) -> Mask:
    size = (int(region["original_height"]), int(region["original_width"]))
    mask: Mask = rle.decode(region["value"]["rle"], size) >= 128
    return mask


def _key_point(name: str, point: Point, shape: tuple[int, ...]) -> dict[str, Any]:
    value = {"x": 100 * point.x / shape[1], "y": 100 * point.y / shape[0], "width": 0.3, "keypointlabels": [LABEL]}
    return {
        "id": name, "type": "keypointlabels", "from_name": "point", "to_name": "image", "is_positive": point.positive,
        "original_width": shape[1], "original_height": shape[0], "image_rotation": 0, "value": value,
    }  # fmt: skip
