"""A task without a click: what others have put on it (boxes, points) becomes masks, then what was learned."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maskloop.jobs.proposals import Proposals
from maskloop.jobs.workbench import Timings, Workbench
from maskloop.labelstudio import polygons, regions, rle
from maskloop.labelstudio.controls import Control, LabelConfig
from maskloop.labelstudio.images import LoadedImage
from maskloop.labelstudio.regions import Target
from maskloop.labelstudio.requests import Task
from maskloop.labelstudio.shapes import Brush, Polygon
from maskloop.labelstudio.sources import Region, Source
from maskloop.queue.job import Payload, Result
from maskloop.queue.pauses import let_clicks_pass
from maskloop.segment.postprocess import clean
from maskloop.segment.prompt import Box, Point, Prompt

MOST = 200
"""Objects of one task that are masked; a detector that finds more has probably gone wrong."""


@dataclass(frozen=True, eq=False)
class Wish:
    """One object that wants a mask: the prompt for it, the id and label of the region to be."""

    prompt: Prompt
    id: str
    label: str | None


@dataclass(frozen=True, eq=False)
class PreannotateRequest:
    """What a preannotate job is asked. ``size`` is (width, height) of the upright image, None if nobody said.

    ``name``, ``to_name`` and ``type`` are those of the control that takes the masks. Without wishes the version
    proposes masks of the ``labels`` (None: of all that are live); if these are none the answer is a score alone.
    ``opened``: somebody opened this one task, and an answer without a mask is worth no prediction.
    """

    url: str
    task: int
    project: int | None
    version: str
    name: str
    to_name: str
    type: str
    wishes: tuple[Wish, ...]
    size: tuple[int, int] | None = None
    labels: tuple[str, ...] | None = None
    opened: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "task": self.task,
            "project": self.project,
            "version": self.version,
            "name": self.name,
            "to_name": self.to_name,
            "type": self.type,
            "wishes": [{"prompt": w.prompt.to_json(), "id": w.id, "label": w.label} for w in self.wishes],
            "size": None if self.size is None else list(self.size),
            "labels": None if self.labels is None else list(self.labels),
            "opened": self.opened,
        }

    @classmethod
    def from_json(cls, data: Payload) -> PreannotateRequest:
        wishes = tuple(Wish(Prompt.from_json(w["prompt"]), w["id"], w["label"]) for w in data["wishes"])
        size = None if data["size"] is None else (int(data["size"][0]), int(data["size"][1]))
        # A request that an older MaskLoop left in the ledger says none: all that are live.
        labels = None if data.get("labels") is None else tuple(data["labels"])
        keys = ("url", "task", "project", "version", "name", "to_name", "type")
        return cls(
            **{key: data[key] for key in keys},
            wishes=wishes,
            size=size,
            labels=labels,
            opened=data.get("opened", False),
        )

    def digest(self) -> str:
        """The same for the same image and wishes, whatever the version and whoever asked."""
        asked = {key: value for key, value in self.to_json().items() if key not in ("version", "opened")}
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def plan(
    task: Task, config: LabelConfig, version: str, live: Collection[str] = (), scored: bool = False
) -> PreannotateRequest | None:
    """What there is to do for a task, None if nothing.

    Boxes and points come from the newest annotation or, without any, the newest prediction
    that has some and no mask yet: a source with masks has been through this, or by hand.
    Without either, the version proposes masks of those ``live`` labels that the config knows: a
    request without wishes. Where there are none of those either, a ``scored`` task is told how well
    its image is known.
    """
    control = config.output()
    if control is None or task.id is None or not task.image_url:
        return None
    asked = PreannotateRequest(
        url=task.image_url,
        task=task.id,
        project=task.project,
        version=version,
        name=control.name,
        to_name=control.to_name,
        type=control.type,
        wishes=(),
    )
    for source in _newest_first(task):
        on_image = [region for region in source.regions if region.to_name == control.to_name and region.shape]
        prompts = [region for region in on_image if isinstance(region.shape, Box | Point) and region.size != (0, 0)]
        if any(isinstance(region.shape, Brush | Polygon) for region in on_image):
            return None
        if wishes := tuple(_wishes(task.id, control, prompts))[:MOST]:
            return replace(asked, wishes=wishes, size=prompts[0].size)
    labels = tuple(sorted(label for label in live if control.label_for(label) == label))
    return replace(asked, labels=labels) if labels or scored else None


def _newest_first(task: Task) -> Iterator[Source]:
    for sources in (task.annotations, task.predictions):
        yield from sorted(sources, key=lambda source: (source.updated, source.id or 0), reverse=True)


def _wishes(task: int, control: Control, prompts: Sequence[Region]) -> Iterator[Wish]:
    """Each box and each plain point is an object; smart points of one label were clicks on one object."""
    clicks: dict[str | None, list[Region]] = {}
    seen: set[tuple[str | None, object]] = set()
    for region in prompts:
        label = control.label_for(region.label)
        if (label, region.shape) in seen:
            continue
        seen.add((label, region.shape))
        if isinstance(region.shape, Box):
            yield Wish(Prompt(box=region.shape, label=label), regions.region_id(task, region.id), label)
        elif isinstance(region.shape, Point) and region.is_positive is None:
            yield Wish(Prompt(points=(region.shape,), label=label), regions.region_id(task, region.id), label)
        else:
            clicks.setdefault(label, []).append(region)
    for label, points in clicks.items():
        prompt = Prompt(
            tuple(Point(r.shape.x, r.shape.y, bool(r.is_positive)) for r in points if isinstance(r.shape, Point)),
            label=label,
        )
        if any(point.positive for point in prompt.points):
            yield Wish(prompt, regions.region_id(task, points[0].id), label)


def preannotate(bench: Workbench, proposals: Proposals, payload: Payload) -> Result:
    """One entry of ``results`` for one task: a region for each wish that led to a mask.

    Beside it stand ``seconds`` (the stages of :data:`maskloop.metrics.STAGES`) and ``tier``, as a click's.
    The score is that of the least certain mask: what the model knows least about wants a
    person first. Raises Later while the image is on its way; ImageError,
    ModelError, or ValueError with what is wrong.
    """
    request, timings, start = PreannotateRequest.from_json(payload), Timings(), time.perf_counter()
    version, segmenter = bench.segmenter(request.version)
    now = timings.stage("load", start)
    image = bench.image_or_later(request.url, request.task)
    timings.stage("image", now)
    height, width = image.pixels.shape[:2]
    if request.size is not None and request.size != (width, height):
        raise ValueError(
            f"the image is {width} x {height} but the boxes and points on it were made for "
            f"{request.size[0]} x {request.size[1]}; was the file replaced?"
        )
    if not request.wishes:
        return {**_proposed(proposals, request, image, version), **_told(timings, start)}
    embedding = bench.embedding(image, segmenter, timings)
    found: list[dict[str, Any]] = []
    scores: list[float] = []
    timings.seconds |= {"decode": 0.0, "rle": 0.0}
    for wish in request.wishes:
        now = time.perf_counter()
        prediction = segmenter.decode(embedding, wish.prompt)
        mask = clean(prediction.mask, wish.prompt)
        decoded = time.perf_counter()
        timings.seconds["decode"] += decoded - now
        if mask.any():
            target = Target(wish.id, request.name, request.to_name, request.type, wish.label, (width, height))
            rings = polygons.rings(mask) if target.polygon else ()
            found += regions.mask_regions(target, rle.encode(mask), rings, prediction.score)
            scores.append(float(prediction.score))
        timings.seconds["rle"] += time.perf_counter() - decoded
        let_clicks_pass()
    return {**regions.prediction(found, version, min(scores, default=0.0)), **_told(timings, start)}


def _told(timings: Timings, start: float) -> dict[str, Any]:
    return {"seconds": {**timings.seconds, "total": time.perf_counter() - start}, "tier": timings.tier}


def _proposed(proposals: Proposals, request: PreannotateRequest, image: LoadedImage, version: str) -> Result:
    """What a version proposes by itself. The score says how well it knows the image, so that tasks sort by it."""
    proposed, certainty = proposals.on_image(version, image, request.labels, request.project)
    height, width = image.pixels.shape[:2]
    found: list[dict[str, Any]] = []
    for number, proposal in enumerate(proposed):
        id = regions.region_id(request.task, f"{version}/{number}")
        target = Target(id, request.name, request.to_name, request.type, proposal.label, (width, height))
        rings = polygons.rings(proposal.mask) if target.polygon else ()
        found += regions.mask_regions(target, rle.encode(proposal.mask), rings, proposal.score)
    return regions.prediction(found, version, certainty.score)
