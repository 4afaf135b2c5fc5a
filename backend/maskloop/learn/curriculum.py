"""What the training loop asks of a family of models: what its decoder is taught with, and how it is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from maskloop.learn.samples import Sample

Net = TypeVar("Net", bound=nn.Module)
"""The module whose decoder is trained."""

Exercise = TypeVar("Exercise")
"""What a lesson is about: an object on an image as the encoder sees it."""

Weights: TypeAlias = Mapping[str, nn.Parameter]
Chosen: TypeAlias = NDArray[np.int64]
"""Numbers of exercises of the pool."""

Report: TypeAlias = Callable[[float, str], None]
"""Progress in [0, 1] and a few words; may raise to stop the training."""


class Curriculum(ABC, Generic[Net, Exercise]):
    """Exercises for a decoder that starts as ``start``'s and shall not forget what ``base``'s knows.

    Neither of the two is ever changed. ``train`` is taught, ``validation`` only judged by: they become the exercises
    of the ``pool`` and those of the ``exam``.
    """

    def __init__(self, start: Net, base: Net, train: Sequence[Sample], validation: Sequence[Sample]) -> None:
        self.start = start
        self.base = base
        self.train = train
        self.validation = validation
        self.pool: list[Exercise] = []
        self.exam: list[Exercise] = []

    @abstractmethod
    def prepare(self, per_object: int, seed: int, until: float, report: Report) -> None:
        """Make the exercises, up to ``per_object`` of each object; fewer once the monotonic clock shows ``until``."""

    @abstractmethod
    def pupil(self, of: Net) -> Net:
        """A copy with a decoder of its own, ready to be trained."""

    @abstractmethod
    def weights(self, of: Net) -> Weights:
        """The parameters that are trained, by the names under which a version keeps them."""

    @abstractmethod
    def lesson(self, pupil: Net, chosen: Chosen, rng: np.random.Generator) -> Tensor:
        """The loss of the answer to the last of some clicks; the clicks before it only lead there."""

    @abstractmethod
    def reminder(self, pupil: Net, frozen: Net, chosen: Chosen, rng: np.random.Generator) -> Tensor:
        """How far the answers to clicks outside the annotator's objects are from those of ``frozen``, the base."""

    @abstractmethod
    def examine(self, pupil: Net) -> tuple[float, float]:
        """Mean IoU after one and after three simulated clicks on the validation objects."""
