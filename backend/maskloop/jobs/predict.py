"""A prompt to a mask: the click's whole path through a worker, on one page."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import Any

from maskloop.jobs.workbench import Timings, Workbench
from maskloop.labelstudio import polygons, rle
from maskloop.labelstudio.images import LoadedImage
from maskloop.queue.job import Payload, Result
from maskloop.segment.correction import constrain
from maskloop.segment.postprocess import clean
from maskloop.segment.prompt import Mask, Prompt, pack_mask, unpack_mask
from maskloop.segment.segmenter import Prediction, Segmenter


@dataclass(frozen=True, eq=False)
class PredictRequest:
    """What a predict job is asked.

    ``size`` is (width, height) as the browser sees the upright image, None if nobody said.
    ``base`` is the mask that is corrected in place: positive points may only add to it and
    negative ones only remove from it. ``output`` is "brush" or "polygon".
    """

    url: str
    task: int | None
    version: str
    prompt: Prompt
    size: tuple[int, int] | None = None
    base: Mask | None = None
    output: str = "brush"

    def to_json(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "task": self.task,
            "version": self.version,
            "prompt": self.prompt.to_json(),
            "size": None if self.size is None else list(self.size),
            "base": None if self.base is None else pack_mask(self.base),
            "output": self.output,
        }

    @classmethod
    def from_json(cls, data: Payload) -> PredictRequest:
        return cls(
            url=data["url"],
            task=data["task"],
            version=data["version"],
            prompt=Prompt.from_json(data["prompt"]),
            size=None if data["size"] is None else (int(data["size"][0]), int(data["size"][1])),
            base=None if data["base"] is None else unpack_mask(data["base"]),
            output=data["output"],
        )


@dataclass(frozen=True)
class PredictAnswer:
    """What a predict job answers: the mask as brush RLE, and as polygons when asked for those.

    ``size`` is (width, height); ``polygons`` are closed rings of (x, y) pixels. An empty mask
    has an empty ``rle``. ``seconds`` are the stages of :data:`maskloop.metrics.STAGES`.
    """

    version: str
    score: float
    size: tuple[int, int]
    rle: bytes
    polygons: tuple[tuple[tuple[float, float], ...], ...]
    seconds: dict[str, float]
    tier: str

    def to_json(self) -> Result:
        return {
            "version": self.version,
            "score": self.score,
            "size": list(self.size),
            "rle": base64.b64encode(self.rle).decode(),
            "polygons": [[list(point) for point in ring] for ring in self.polygons],
            "seconds": self.seconds,
            "tier": self.tier,
        }

    @classmethod
    def from_json(cls, data: Result) -> PredictAnswer:
        return cls(
            version=data["version"],
            score=data["score"],
            size=(data["size"][0], data["size"][1]),
            rle=base64.b64decode(data["rle"]),
            polygons=tuple(tuple((x, y) for x, y in ring) for ring in data["polygons"]),
            seconds=data["seconds"],
            tier=data["tier"],
        )


@dataclass(frozen=True, eq=False)
class Case:
    """A request with the model that answers it and its image."""

    request: PredictRequest
    version: str
    segmenter: Segmenter
    image: LoadedImage
    timings: Timings
    start: float


def opened(bench: Workbench, payload: Payload) -> Case:
    """A payload with all that its answer needs but the embedding. Raises Later, ImageError, ModelError, ValueError."""
    request, timings = PredictRequest.from_json(payload), Timings()
    start = time.perf_counter()
    version, segmenter = bench.segmenter(request.version)
    now = timings.stage("load", start)
    image = bench.image_or_later(request.url, request.task, waited_for=True)
    timings.stage("image", now)
    height, width = image.pixels.shape[:2]
    if request.size is not None and request.size != (width, height):
        raise ValueError(
            f"the image is {width} x {height} but the annotator's browser saw {request.size[0]} x {request.size[1]}; "
            "was the file replaced? Reload the task"
        )
    return Case(request, version, segmenter, image, timings, start)


def answered(case: Case, prediction: Prediction, since: float) -> Result:
    """The answer from what the model made of the prompt, which it was given at ``since``."""
    request, timings = case.request, case.timings
    mask = clean(prediction.mask, request.prompt)
    if request.base is not None:
        mask = constrain(mask, request.base, request.prompt)
    now = timings.stage("decode", since)
    rings = polygons.rings(mask) if request.output == "polygon" else ()
    packed = rle.encode(mask) if mask.any() else b""
    now = timings.stage("rle", now)
    timings.seconds["total"] = now - case.start
    height, width = mask.shape
    return PredictAnswer(
        case.version, float(prediction.score), (width, height), packed, rings, timings.seconds, timings.tier
    ).to_json()
