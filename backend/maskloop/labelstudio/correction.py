"""The existing mask under a click, to be corrected in place by answering with its id."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from maskloop.labelstudio.controls import Control
from maskloop.labelstudio.memory import Memory
from maskloop.labelstudio.regions import Target
from maskloop.labelstudio.requests import Task
from maskloop.labelstudio.rle import RleError, decode_mask
from maskloop.labelstudio.shapes import Brush
from maskloop.labelstudio.sources import Region, Source
from maskloop.segment.prompt import Mask, Point

ANSWER_SECONDS = 7.0
"""How long an own answer may be newer than the draft, which Label Studio saves every five seconds."""

SETTLED = 1.5
"""A draft saved so many seconds after an answer knows what became of it."""

ANSWERS = 8
ECHOED = ("meta", "parentID", "origin")


@dataclass(frozen=True)
class Refusal:
    """A mask is there and must not be replaced."""

    reason: str


@dataclass(frozen=True)
class Found:
    """The mask to correct (base64 of its RLE) and the region it is."""

    rle: str
    target: Target

    def to_json(self) -> dict[str, Any]:
        t = self.target
        return {
            "rle": self.rle,
            "region": [t.id, t.from_name, t.to_name, t.type, t.label, list(t.size)],
            "extras": dict(t.extras),
            "others": [dict(other) for other in t.others],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Found:
        id, from_name, to_name, type, label, (width, height) = data["region"]
        others = tuple(data["others"])
        return cls(data["rle"], Target(id, from_name, to_name, type, label, (width, height), data["extras"], others))


@dataclass(frozen=True, eq=False)
class _Candidate:
    mask: Mask
    rle: bytes
    target: Target
    refusal: str | None


def mask_under(
    task: Task, click: Region, control: Control, label: str | None, memory: Memory, now: float
) -> Found | Refusal | None:
    """The smallest mask of that label under a click: found, found but not to be touched, or None.

    What is on the screen is the own draft if there is one, else an annotation or a prediction. A
    mask answered seconds ago may be newer than all of them.
    """
    if not isinstance(click.shape, Point):
        return None
    x, y = int(click.shape.x), int(click.shape.y)
    sources = [task.draft] if task.draft else [*task.annotations, *task.predictions]
    answers = _answers(memory, task, now)
    candidates: list[_Candidate] = []
    for id, regions in _by_id(sources, control, label, click).items():
        answer = answers.pop(id, None)
        newest = max((source.updated for source, _ in regions), default=0.0)
        newer = answer["rle"] if answer is not None and newest <= answer["at"] + SETTLED else None
        candidates += _candidates(regions, newer, task)
    for answer in answers.values():
        if task.draft is None or task.draft.updated <= answer["at"] + SETTLED:
            candidates += _from_answer(answer, click, label)
    under = [candidate for candidate in candidates if candidate.mask[y, x]]
    if not under:
        return None
    smallest = min(under, key=lambda candidate: int(candidate.mask.sum()))
    if smallest.refusal is not None:
        return Refusal(f"region {smallest.target.id} is not corrected in place: {smallest.refusal}")
    return Found(base64.b64encode(smallest.rle).decode(), smallest.target)


def remember_answer(memory: Memory, task: Task, target: Target, rle: bytes, now: float) -> None:
    """Keep a mask that the drafts cannot hold yet."""
    if task.id is None or target.polygon:
        return
    answer = {
        **Found(base64.b64encode(rle).decode(), target).to_json(),
        "at": now,
        "user": task.draft.user if task.draft else None,
    }
    kept = [a for a in (memory.get(_key(task)) or {"answers": []})["answers"] if a["region"][0] != target.id]
    memory.put(_key(task), {"answers": [*kept, answer][-ANSWERS:]}, ANSWER_SECONDS)


def _key(task: Task) -> str:
    return f"answers/{task.project}/{task.id}"


def _answers(memory: Memory, task: Task, now: float) -> dict[str, dict[str, Any]]:
    """Own answers of the last seconds that were not given to somebody else, by region id."""
    kept = (memory.get(_key(task)) or {"answers": []})["answers"]
    user = task.draft.user if task.draft else None
    return {a["region"][0]: a for a in kept if now - a["at"] <= ANSWER_SECONDS and a["user"] in (None, user)}


def _by_id(
    sources: Sequence[Source], control: Control, label: str | None, click: Region
) -> dict[str, list[tuple[Source, Region]]]:
    """Brush regions of that label on that image, with every source they are in."""
    found: dict[str, list[tuple[Source, Region]]] = {}
    for source in sources:
        for region in source.regions:
            same = (region.type, region.to_name, region.size) == (control.type, control.to_name, click.size)
            if same and region.id and region.label == label:
                found.setdefault(region.id, []).append((source, region))
    return found


def _candidates(regions: Sequence[tuple[Source, Region]], newer: str | None, task: Task) -> Iterator[_Candidate]:
    """One region, in all its sources, as a mask to correct; ``newer`` is the RLE of a later answer."""
    different = {region.shape.rle for _, region in regions if isinstance(region.shape, Brush)}
    refusal = None
    if len(different) > 1:
        refusal = "it has different masks in several annotations or predictions"
    elif task.draft is None and len(task.annotations) > 1:
        refusal = "the task has several annotations, and which of them is open is unknown"
    for source, region in regions:
        brush = region.shape
        if not isinstance(brush, Brush):
            continue
        reason = refusal
        if region.id in source.related:
            reason = reason or "it is part of a relation"
        if brush.strokes or brush.drawing:
            reason = reason or "it has brush strokes that are not saved as a mask yet"
        rle = base64.b64decode(newer) if newer is not None else brush.rle
        mask = _decoded(rle, region.size)
        if rle is not None and mask is not None:
            yield _Candidate(mask, rle, _target(source, region), reason)


def _from_answer(answer: dict[str, Any], click: Region, label: str | None) -> Iterator[_Candidate]:
    found = Found.from_json(answer)
    if (found.target.to_name, found.target.label, found.target.size) != (click.to_name, label, click.size):
        return
    rle = base64.b64decode(found.rle)
    mask = _decoded(rle, found.target.size)
    if mask is not None:
        yield _Candidate(mask, rle, found.target, None)


def _decoded(rle: bytes | None, size: tuple[int, int]) -> Mask | None:
    if rle is None:
        return None
    try:
        return decode_mask(rle, (size[1], size[0]))
    except RleError:
        return None


def _target(source: Source, region: Region) -> Target:
    """The region as it is, with everything an answer has to repeat so that the editor keeps it."""
    extras = {key: region.raw[key] for key in ECHOED if key in region.raw}
    if extras.get("origin") == "prediction":
        extras["origin"] = "prediction-changed"
    others = [
        other.raw
        for other in source.regions
        if other.id == region.id and not other.type.startswith(("brush", "keypoint", "rectangle"))
    ]
    return Target(
        region.id, region.from_name, region.to_name, region.type, region.label, region.size, extras, tuple(others)
    )
