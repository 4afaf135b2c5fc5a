"""How near an image is to images that were learned from, told by its deepest features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from maskloop.segment.segmenter import Embedding

Signature: TypeAlias = NDArray[np.float32]

NEAR = 0.03
"""Distance (1 - cosine) within which an image is always of the kind: frames of one video are nearer to each other than
to the next video of the same street."""


def signature(embedding: Embedding) -> Signature:
    """An image in a few numbers: mean and spread of its deepest features. Unit length; empty without features."""
    maps = [a for a in embedding.arrays.values() if a.dtype == np.float16 and a.ndim >= 3]
    if not maps:
        return np.zeros(0, np.float32)
    deepest = max(maps, key=lambda a: a.shape[-3])
    flat = deepest.astype(np.float32).reshape(deepest.shape[-3], -1)
    vector = np.concatenate([flat.mean(axis=1), flat.std(axis=1)])
    length: Signature = vector / max(float(np.linalg.norm(vector)), 1e-6)
    return length


class Familiarity:
    """Knows some images by their signatures."""

    def __init__(self, known: Sequence[Signature]) -> None:
        size = known[-1].size if len(known) else 0
        self._known = np.array([one for one in known if one.size == size], np.float32).reshape(-1, max(size, 1))
        among = self._known @ self._known.T
        np.fill_diagonal(among, -1.0)
        self._usual = float(np.median(among.max(axis=1))) if len(among) > 1 else 1.0

    def of(self, image: Signature) -> float:
        """How near an image is to the nearest known one, against how near those are to each other; in [0, 1].

        As near as they usually are to each other counts as fully known, twice as far as not at all.
        """
        further = self._distance(image) - (1.0 - self._usual)
        return float(np.clip(1.0 - further / max(1.0 - self._usual, 1e-3), 0.0, 1.0))

    def knows(self, image: Signature) -> bool:
        """Whether an image is of the same kind: less than twice as far as the known ones usually are, or NEAR."""
        return self._distance(image) < max(2 * (1.0 - self._usual), NEAR)

    def _distance(self, image: Signature) -> float:
        """From the nearest known image, as 1 - cosine; infinite if there is none of this encoder."""
        if not self._known.size or self._known.shape[1] != image.size:
            return float("inf")
        return 1.0 - float((self._known @ image).max())
