"""Which images one training looks at, so that a project of any size fits into its memory and its time."""

from __future__ import annotations

import hashlib
from bisect import insort
from collections.abc import Hashable
from dataclasses import dataclass

NEWEST, OLDER = 60, 60
"""Images that are not held out: so many of the newest, and so many of all others, drawn by lot."""
HELD = 60
"""Images that are held out."""


@dataclass(frozen=True)
class Admission:
    """Whether an image finds room, and the image that has to leave for it."""

    admitted: bool
    leaves: str | None = None


class Room:
    """Admits images, which come newest first. The lots are drawn anew with each ``seed``."""

    def __init__(self, seed: Hashable) -> None:
        self._seed = seed
        self._held = self._newest = 0
        self._older: list[tuple[str, str]] = []
        """Lot and name, the lowest lot first."""

    def admit(self, name: str, held: bool) -> Admission:
        """Ask for room for an image that was not seen before."""
        if held:
            self._held += 1
            return Admission(self._held <= HELD)
        self._newest += 1
        if self._newest <= NEWEST:
            return Admission(True)
        insort(self._older, (hashlib.sha256(f"{self._seed}/{name}".encode()).hexdigest(), name))
        leaves = self._older.pop()[1] if len(self._older) > OLDER else None
        return Admission(leaves != name, leaves if leaves != name else None)
