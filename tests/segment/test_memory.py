from __future__ import annotations

import gc
import weakref

import numpy as np

from maskloop.segment.memory import Memory
from maskloop.segment.segmenter import Embedding


def embedding() -> Embedding:
    return Embedding({"x": np.zeros(1, np.uint8)}, (1, 1), "e")


def test_what_is_kept_is_bounded_in_bytes_and_the_least_recently_used_goes_first() -> None:
    memory, one, other = Memory(250), embedding(), embedding()
    memory.keep(one, "a", 1, 100)
    memory.keep(other, "a", 2, 100)
    assert memory.recall(one, "a") == 1
    memory.keep(other, "b", 3, 100)
    assert [memory.recall(one, "a"), memory.recall(other, "a"), memory.recall(other, "b")] == [1, None, 3]
    assert memory.nbytes == 200
    memory.keep(one, "a", 4, 150)
    assert (memory.recall(one, "a"), memory.nbytes) == (4, 250)
    memory.keep(one, "too large", 5, 251)
    assert memory.recall(one, "too large") is None
    assert memory.nbytes == 0


def test_an_embedding_is_not_kept_alive_and_never_taken_for_another() -> None:
    memory, seen = Memory(1_000_000), weakref.WeakSet[Embedding]()
    for number in range(200):
        mine = embedding()
        assert memory.recall(mine, "key") is None, "an id that was used before"
        memory.keep(mine, "key", number, 1)
        seen.add(mine)
        del mine
    gc.collect()
    assert not seen
