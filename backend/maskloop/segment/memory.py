"""What was worked out for one click and may serve the next: kept in memory, bounded in bytes, only ever a saving."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from maskloop.segment.segmenter import Embedding


@dataclass(frozen=True, eq=False)
class Kept:
    """One value, and the embedding it was worked out from as long as somebody has that."""

    embedding: weakref.ref[Embedding]
    value: Any
    nbytes: int


class Memory:
    """Values by embedding and key, the least recently used out first. Safe to use from several threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[tuple[int, Hashable], Kept] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return self._nbytes

    def recall(self, embedding: Embedding, key: Hashable) -> Any:
        """What was kept under ``key`` for this very embedding; None if it never was, or is not any more."""
        place = (id(embedding), key)
        with self._lock:
            kept = self._kept.get(place)
            # An embedding that is gone may have left its id to another one.
            if kept is None or kept.embedding() is not embedding:
                return None
            self._kept.move_to_end(place)
            return kept.value

    def keep(self, embedding: Embedding, key: Hashable, value: Any, nbytes: int) -> None:
        """Keep ``value``, which takes ``nbytes``, for as long as there is room."""
        place = (id(embedding), key)
        with self._lock:
            old = self._kept.pop(place, None)
            self._nbytes -= old.nbytes if old is not None else 0
            self._kept[place] = Kept(weakref.ref(embedding), value, nbytes)
            self._nbytes += nbytes
            while self._nbytes > self._limit:
                _, oldest = self._kept.popitem(last=False)
                self._nbytes -= oldest.nbytes


ANSWERS = Memory(48_000_000)
"""What the next click starts from. This and the other are a process's: a worker keeps several versions warm."""
FEATURES = Memory(96_000_000)
"""What an encoder saw besides the embedding. Apart, because a few of them would push out many answers."""
