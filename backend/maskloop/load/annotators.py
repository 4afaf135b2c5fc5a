"""People who open a task, click, wait, correct and submit, with time to think in between."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import requests

from maskloop.labelstudio import rle
from maskloop.load.scenes import Scene
from maskloop.segment.prompt import Mask

CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image" smart="false"><Label value="Object"/></BrushLabels>
<KeyPointLabels name="point" toName="image" smart="true"><Label value="Object"/></KeyPointLabels>
<RectangleLabels name="box" toName="image" smart="true"><Label value="Object"/></RectangleLabels></View>"""
PROJECT = 1
MOST_CLICKS = 4


@dataclass(frozen=True)
class Click:
    """One answered click: which one on its object, seconds for the browser, and what came.

    ``outcome`` is ok, wrong (another image's mask), refused (503) or error. ``model`` are the
    seconds that the model took, as the server says.
    """

    number: int
    at: float
    seconds: float
    outcome: str
    model: float = 0.0
    iou: float = 0.0


@dataclass
class Record:
    """What all annotators saw."""

    clicks: list[Click] = field(default_factory=list)
    opened: list[float] = field(default_factory=list)
    submitted: int = 0
    batch_tasks: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Annotator(threading.Thread):
    """One person, who goes on until ``over`` is set. ``think`` is the mean time before each action, seconds."""

    def __init__(
        self,
        number: int,
        url: str,
        scenes: Sequence[Scene],
        record: Record,
        over: threading.Event,
        think: float,
        auth: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(daemon=True)
        self._url = url
        self._scenes = scenes
        self._record = record
        self._over = over
        self._think = think
        self._random = random.Random(number)
        self._session = requests.Session()
        self._session.auth = auth
        self._session.trust_env = False
        self._task = 1_000_000 * (number + 1)

    def run(self) -> None:
        self._over.wait(self._random.uniform(0, 2 * self._think))
        while not self._over.is_set():
            self._annotate(self._random.choice(self._scenes))

    def _pause(self) -> None:
        """People differ, and sometimes look away: log-normal, as response times are."""
        self._over.wait(self._think * self._random.lognormvariate(-0.125, 0.5))

    def _annotate(self, scene: Scene) -> None:
        self._task += 1
        began = time.perf_counter()
        self._post("/predict", self._predict(scene, None))
        with self._record.lock:
            self._record.opened.append(time.perf_counter() - began)
        points: list[dict[str, Any]] = []
        last: dict[str, Any] | None = None
        for number in range(1, self._random.randint(1, MOST_CLICKS) + 1):
            self._pause()
            if self._over.is_set():
                return
            points.append(self._point(scene, positive=number == 1 or self._random.random() < 0.6))
            click, region = self._click(number, scene, points)
            with self._record.lock:
                self._record.clicks.append(click)
            last = region or last
        self._pause()
        if last is not None and not self._over.is_set():
            annotation = {"id": self._task, "task": self._task, "project": PROJECT, "result": [last]}
            task = {"id": self._task, "data": {"image": scene.url}, "project": PROJECT}
            event = {"action": "ANNOTATION_CREATED", "annotation": annotation, "task": task, "project": {"id": PROJECT}}
            if self._post("/webhook", event) is not None:
                with self._record.lock:
                    self._record.submitted += 1

    def _click(self, number: int, scene: Scene, points: list[dict[str, Any]]) -> tuple[Click, dict[str, Any] | None]:
        began, at = time.perf_counter(), time.time()
        response = self._post("/predict", self._predict(scene, points))
        seconds = time.perf_counter() - began
        if response is None or response.status_code != 200:
            self._note("no answer" if response is None else f"HTTP {response.status_code}: {response.text[:200]}")
            refused = response is not None and response.status_code == 503
            return Click(number, at, seconds, "refused" if refused else "error"), None
        regions = response.json()["results"][0]["result"]
        model = server_seconds(response.headers.get("Server-Timing", ""), ("encode", "decode"))
        if not regions:
            return Click(number, at, seconds, "ok", model), None
        (region,) = regions
        try:
            mask = rle.decode_mask(region["value"]["rle"], scene.size[::-1])
        except rle.RleError:  # every scene has a size of its own
            return Click(number, at, seconds, "wrong", model), None
        return Click(number, at, seconds, "ok", model, iou(mask, scene.mask)), region

    def _note(self, problem: str) -> None:
        with self._record.lock:
            self._record.problems[problem] += 1

    def _post(self, path: str, body: dict[str, Any]) -> requests.Response | None:
        try:
            return self._session.post(self._url + path, json=body, timeout=100)
        except requests.RequestException:
            return None

    def _predict(self, scene: Scene, points: list[dict[str, Any]] | None) -> dict[str, Any]:
        task = {"id": self._task, "data": {"image": scene.url}, "project": PROJECT}
        context = None if points is None else {"result": points}
        return predict_body([task], context)

    def _point(self, scene: Scene, positive: bool) -> dict[str, Any]:
        width, height = scene.size
        rows, columns = np.nonzero(scene.mask if positive else ~scene.mask)
        pick = self._random.randrange(len(rows))
        x, y = columns[pick] + 0.5, rows[pick] + 0.5
        value = {"x": 100 * x / width, "y": 100 * y / height, "width": 0.2, "keypointlabels": ["Object"]}
        return {
            "id": f"{self._task}-{self._random.getrandbits(40):x}",
            "type": "keypointlabels",
            "from_name": "point",
            "to_name": "image",
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "is_positive": positive,
            "value": value,
        }


def predict_body(tasks: list[dict[str, Any]], context: dict[str, Any] | None) -> dict[str, Any]:
    """A body of POST /predict, as Label Studio sends it."""
    params = {"login": None, "password": None, "context": context}
    return {"tasks": tasks, "project": f"{PROJECT}.1", "label_config": CONFIG, "params": params}


def boxed_task(number: int, scene: Scene) -> dict[str, Any]:
    """A task that a detector has put a box on."""
    width, height = scene.size
    rows, columns = np.nonzero(scene.mask)
    x, y = 100 * columns.min() / width, 100 * rows.min() / height
    w, h = 100 * (columns.max() + 1) / width - x, 100 * (rows.max() + 1) / height - y
    value = {"x": x, "y": y, "width": w, "height": h, "rotation": 0, "rectanglelabels": ["Object"]}
    region = {
        "id": f"box{number}",
        "type": "rectanglelabels",
        "from_name": "box",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "value": value,
    }
    prediction = {"id": number, "result": [region], "model_version": "detector"}
    return {"id": number, "data": {"image": scene.url}, "project": PROJECT, "predictions": [prediction]}


class Batch(threading.Thread):
    """Somebody who retrieves predictions for many tasks again and again, until ``over`` is set."""

    def __init__(
        self, url: str, scenes: Sequence[Scene], tasks: int, record: Record, over: threading.Event, auth: Any = None
    ) -> None:
        super().__init__(daemon=True)
        self._arguments = (url, scenes, tasks, record, over, auth)

    def run(self) -> None:
        url, scenes, tasks, record, over, auth = self._arguments
        first = 1
        while not over.is_set():
            body = predict_body([boxed_task(first + n, scenes[n % len(scenes)]) for n in range(tasks)], None)
            try:
                response = requests.post(f"{url}/predict", json=body, auth=auth, timeout=100)
                with record.lock:
                    record.batch_tasks += sum(bool(entry) for entry in response.json()["results"])
            except (requests.RequestException, ValueError):
                over.wait(1.0)
            first += tasks


def server_seconds(header: str, stages: Sequence[str]) -> float:
    """The sum of some stages of a Server-Timing header."""
    total = 0.0
    for part in header.split(","):
        name, _, duration = part.strip().partition(";dur=")
        if name in stages and duration:
            total += float(duration) / 1000
    return total


def iou(a: Mask, b: Mask) -> float:
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 0.0
