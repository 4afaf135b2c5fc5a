"""A prompt: what an annotator gave to say which object is meant.

All coordinates are pixels of the upright image, x before y, origin at the top
left corner of the image; the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Mask: TypeAlias = NDArray[np.bool_]
"""H x W, row-major, True on the object."""

Image: TypeAlias = NDArray[np.uint8]
"""H x W x 3, RGB, upright."""


@dataclass(frozen=True)
class Point:
    """A click; positive says "this belongs to it", negative "this does not"."""

    x: float
    y: float
    positive: bool = True


@dataclass(frozen=True)
class Box:
    """A rectangle around the object, x0 < x1 and y0 < y1."""

    x0: float
    y0: float
    x1: float
    y1: float

    def contains(self, x: float, y: float, grow: float = 0.0) -> bool:
        """Whether (x, y) lies inside the box grown by ``grow`` of its size on every side."""
        dx, dy = grow * (self.x1 - self.x0), grow * (self.y1 - self.y0)
        return self.x0 - dx <= x <= self.x1 + dx and self.y0 - dy <= y <= self.y1 + dy


@dataclass(frozen=True, eq=False)
class Scribble:
    """A brush stroke, rasterised: H x W, True where the brush passed."""

    mask: Mask
    positive: bool = True


@dataclass(frozen=True, eq=False)
class Prompt:
    """Points in click order, an optional box, scribbles, and the mask to start from.

    ``label`` is what the annotator calls the object. It says nothing of where it is: a model that learned objects of
    some labels knows by it whether one of these is meant.
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    scribbles: tuple[Scribble, ...] = field(default=())
    prior: Mask | None = None
    label: str | None = None

    @property
    def empty(self) -> bool:
        return not (self.points or self.box or self.scribbles or self.prior is not None)

    @property
    def pointing(self) -> bool:
        """Whether it says where the object is; what is only told where it is not could be anything."""
        given = any(p.positive for p in self.points) or any(s.positive and s.mask.any() for s in self.scribbles)
        return given or self.box is not None or (self.prior is not None and bool(self.prior.any()))

    @property
    def ambiguous(self) -> bool:
        """Whether it is one click and nothing else, which can mean a part or the whole."""
        return len(self.points) == 1 and self.box is None and not self.scribbles and self.prior is None

    def to_json(self) -> dict[str, Any]:
        """The prompt as plain JSON; :meth:`from_json` gives it back."""
        return {
            "points": [[p.x, p.y, int(p.positive)] for p in self.points],
            "box": None if self.box is None else [self.box.x0, self.box.y0, self.box.x1, self.box.y1],
            "scribbles": [{"mask": pack_mask(s.mask), "positive": s.positive} for s in self.scribbles],
            "prior": None if self.prior is None else pack_mask(self.prior),
            "label": self.label,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Prompt:
        return cls(
            points=tuple(Point(float(x), float(y), bool(positive)) for x, y, positive in data["points"]),
            box=None if data["box"] is None else Box(*map(float, data["box"])),
            scribbles=tuple(Scribble(unpack_mask(s["mask"]), bool(s["positive"])) for s in data["scribbles"]),
            prior=None if data["prior"] is None else unpack_mask(data["prior"]),
            label=data.get("label"),  # a web process of an earlier release says nothing of it
        )

    def digest(self) -> str:
        """A stable hash of the prompt, for idempotent jobs."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def iou(one: Mask, other: Mask) -> float:
    """Intersection over union of two masks of one size; 1.0 for two empty ones."""
    union = int(np.count_nonzero(one | other))
    return float(np.count_nonzero(one & other) / union) if union else 1.0


def pack_mask(mask: Mask) -> dict[str, Any]:
    """A mask as small plain JSON: its shape and its deflated bits."""
    height, width = mask.shape
    bits = zlib.compress(np.packbits(mask).tobytes(), 1)
    return {"size": [int(height), int(width)], "bits": base64.b64encode(bits).decode()}


def unpack_mask(data: dict[str, Any]) -> Mask:
    """The mask that :func:`pack_mask` packed.

    Raises ValueError when the bits do not fill the stated size.
    """
    height, width = (int(n) for n in data["size"])
    need = (height * width + 7) // 8
    inflate = zlib.decompressobj()
    raw = inflate.decompress(base64.b64decode(data["bits"]), need + 1)
    if len(raw) != need:
        raise ValueError(f"a packed mask of {width} x {height} pixels needs {need} bytes, got {len(raw)}")
    bits = np.unpackbits(np.frombuffer(raw, np.uint8), count=height * width)
    return bits.reshape(height, width).astype(bool)
