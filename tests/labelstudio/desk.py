"""A desk at which somebody annotates: requests of our own, one after the other."""

from __future__ import annotations

from typing import Any

from maskloop.labelstudio import rle
from maskloop.labelstudio.interaction import GestureOptions, Interaction, Nothing, interpret
from maskloop.labelstudio.memory import LocalMemory
from maskloop.labelstudio.requests import parse_predict
from maskloop.segment.prompt import Mask

from .made import mask

DEFAULT = GestureOptions()
CORRECT = GestureOptions(correct_in_place=True)
OFF = GestureOptions(box_memory_seconds=0)
START = 1_000_000.0
CAT = mask(10, 10, 40, 40)


class Desk:
    """A backend with its memory and a clock."""

    def __init__(self, options: GestureOptions = DEFAULT) -> None:
        self.now = START
        self.memory = LocalMemory(clock=lambda: self.now)
        self.options = options

    def ask(self, sent: Any, after: float = 1.0) -> Interaction | Nothing:
        self.now += after
        return interpret(parse_predict(sent), self.memory, self.options, now=self.now)

    def mask(self, sent: Any, after: float = 1.0, answered: Mask | None = None) -> Interaction:
        """Ask, and remember an answer a moment later."""
        found = self.ask(sent, after)
        assert isinstance(found, Interaction), found
        self.now += 0.1
        found.remember(self.memory, rle.encode(CAT if answered is None else answered), now=self.now)
        return found

    def nothing(self, sent: Any, after: float = 1.0) -> Nothing:
        found = self.ask(sent, after)
        assert isinstance(found, Nothing), found
        return found
