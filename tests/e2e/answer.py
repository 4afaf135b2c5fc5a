"""What comes back to the editor: masks, and the requests that asked for them. Positions are percent of the image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Mask:
    """A brush region: which, what, and its pixels ((H, W) bool)."""

    id: str
    label: str
    pixels: np.ndarray

    @classmethod
    def of(cls, region: dict[str, Any]) -> Mask:
        from label_studio_sdk.converter.brush import decode_rle

        width, height = region["original_width"], region["original_height"]
        alpha = np.asarray(decode_rle(region["value"]["rle"])).reshape(height, width, 4)[..., 3]
        return cls(region["id"], region["value"].get("brushlabels", [""])[0], alpha >= 128)

    @property
    def area(self) -> int:
        return int(self.pixels.sum())

    def has(self, x: float, y: float) -> bool:
        height, width = self.pixels.shape
        return bool(self.pixels[int(y * height / 100), int(x * width / 100)])

    def inside(self, x0: float, y0: float, x1: float, y1: float) -> int:
        """Pixels of the mask within the rectangle."""
        height, width = self.pixels.shape
        rows = slice(int(y0 * height / 100), int(y1 * height / 100))
        return int(self.pixels[rows, int(x0 * width / 100) : int(x1 * width / 100)].sum())


@dataclass(frozen=True)
class Answer:
    """One interactive request of the editor, and what came back."""

    asked: list[dict[str, Any]]
    """The prompts of ``context.result``."""
    regions: list[dict[str, Any]]
    errors: list[str] = field(default_factory=list)
    version: str = ""

    @property
    def mask(self) -> Mask:
        assert not self.errors, f"Label Studio got no answer: {self.errors}"
        brushes = [region for region in self.regions if region["type"] == "brushlabels"]
        assert brushes, "the answer is empty: nothing is drawn, and the annotator is told nothing"
        return Mask.of(brushes[-1])
