"""Answers: a mask as the regions and predictions that Label Studio accepts."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maskloop.labelstudio.controls import Control

Ring = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Target:
    """Where a mask goes: the region it becomes.

    ``type`` is the type of the result ("brushlabels"); ``label`` None leaves the mask unlabelled.
    ``size`` is (width, height) of the upright image. ``extras`` are keys of an existing region
    and ``others`` further results with its id, which the editor forgets unless they are echoed.
    """

    id: str
    from_name: str
    to_name: str
    type: str
    label: str | None
    size: tuple[int, int]
    extras: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of(cls, control: Control, id: str, label: str | None, size: tuple[int, int]) -> Target:
        """A new region of a control."""
        return cls(id=id, from_name=control.name, to_name=control.to_name, type=control.type, label=label, size=size)

    @property
    def polygon(self) -> bool:
        return self.type.startswith("polygon")


def region_id(task: int | None, prompt: str) -> str:
    """The id of the region that grows from a prompt: the same for every answer of a chain of prompts.

    Label Studio replaces a region by an answer with its id, so one tick leaves one region.
    """
    return hashlib.blake2b(f"{task}/{prompt}".encode(), digest_size=6).hexdigest()


def mask_regions(target: Target, rle: bytes, rings: Iterable[Ring], score: float) -> list[dict[str, Any]]:
    """The results of an answer: one brush region, or polygons where the target is one; none for an empty mask."""
    found = (
        polygon_regions(target, rings, score) if target.polygon else [brush_region(target, rle, score)] if rle else []
    )
    return found + [dict(other) for other in target.others] if found else []


def brush_region(target: Target, rle: bytes, score: float) -> dict[str, Any]:
    """A brush region; ``rle`` as :func:`maskloop.labelstudio.rle.encode` gives it."""
    return _region(target, target.id, {"format": "rle", "rle": list(rle)}, score)


def polygon_regions(target: Target, rings: Iterable[Ring], score: float) -> list[dict[str, Any]]:
    """A polygon region for each closed ring of (x, y) pixels; the first carries the target's id."""
    width, height = target.size
    regions = []
    for number, ring in enumerate(rings):
        points = [[100 * x / width, 100 * y / height] for x, y in ring]
        id = target.id if number == 0 else f"{target.id}-{number + 1}"
        regions.append(_region(target, id, {"points": points, "closed": True}, score))
    return regions


def prediction(result: Sequence[Mapping[str, Any]], version: str, score: float) -> dict[str, Any]:
    """One entry of ``results`` in the answer to /predict."""
    return {"model_version": version, "score": clip(score), "result": list(result)}


def clip(score: float) -> float:
    """A score within [0, 1]; what is not a number is the least certain."""
    return min(max(float(score), 0.0), 1.0) if math.isfinite(score) else 0.0


def _region(target: Target, id: str, value: dict[str, Any], score: float) -> dict[str, Any]:
    if target.type.endswith("labels"):
        value[target.type] = [] if target.label is None else [target.label]
    return {
        "id": id,
        "from_name": target.from_name,
        "to_name": target.to_name,
        "type": target.type,
        "original_width": target.size[0],
        "original_height": target.size[1],
        "image_rotation": 0,
        "score": clip(score),
        "readonly": False,
        **target.extras,
        "value": value,
    }
