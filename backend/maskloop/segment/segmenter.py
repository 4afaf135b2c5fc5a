"""The interface every model offers: encode an image once, decode prompts on it often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from maskloop.segment.prompt import Box, Image, Mask, Prompt


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the encoder saw of one image. Immutable; it travels with its prompt.

    ``arrays`` are float16 or uint8 numpy arrays, named by the model (a model may keep
    pixels here for a closer look at decode time). ``size`` is (height, width) of the
    upright image in pixels. ``encoder`` is the hash of the encoder that made it: only a
    segmenter with the same ``encoder`` may decode it.
    """

    arrays: Mapping[str, NDArray[np.generic]]
    size: tuple[int, int]
    encoder: str

    @property
    def nbytes(self) -> int:
        return sum(int(a.nbytes) for a in self.arrays.values())


@dataclass(frozen=True, eq=False)
class Prediction:
    """One answer: ``mask`` H x W bool at image size, ``score`` the predicted IoU in [0, 1]."""

    mask: Mask
    score: float


@runtime_checkable
class Scaling(Protocol):
    """What a segmenter offers whose encoder sees an image at one size only, whatever size the image has."""

    def at_size(self, embedding: Embedding, size: tuple[int, int]) -> Embedding:
        """The embedding of the same image at another ``size`` (height, width)."""
        ...


@runtime_checkable
class Together(Protocol):
    """What a segmenter offers whose network answers several prompts in one pass."""

    def decode_all(self, asked: Sequence[tuple[Embedding, Prompt]]) -> list[Prediction | Exception]:
        """What ``decode`` answers or raises for each; logits may differ by rounding."""
        ...


@runtime_checkable
class Closer(Protocol):
    """What a segmenter offers that can look at a part of an image more closely than its embedding does."""

    def closer(self, embedding: Embedding, part: Box) -> Mapping[str, NDArray[np.generic]]:
        """Feature maps of ``part`` (pixels of the image) under the names, and of the kind, of the embedding's."""
        ...


@runtime_checkable
class Segmenter(Protocol):
    """A promptable model. Methods are pure: no "current image" is ever kept between calls."""

    name: str
    """The model's name in the catalogue, e.g. ``clicknet``."""
    encoder: str
    """Hash of everything that decides an embedding (encoder weights, input size)."""

    def encode(self, image: Image) -> Embedding:
        """The embedding of an upright RGB image, H x W x 3 uint8, any size."""
        ...

    def decode(self, embedding: Embedding, prompt: Prompt) -> Prediction:
        """The mask for ``prompt``. Raises ValueError if the embedding is another encoder's or the prompt is empty."""
        ...
