from __future__ import annotations

import numpy as np

from maskloop.learn.head import MOST_FEATURES, pixel_lessons
from maskloop.learn.pixels import Appearance, Map
from maskloop.learn.samples import Sample, Target

SIZE = (96, 128)


def test_the_lessons_of_many_images_are_bounded_together() -> None:
    mask = np.zeros(SIZE, bool)
    mask[20:80, 20:80] = True
    target = Target(1, "r", "Cell", SIZE, np.packbits(mask).tobytes())
    sample = Sample("c", 1, "a.png", np.zeros((*SIZE, 3), np.uint8), (target,))
    everywhere = (slice(0, SIZE[0]), slice(0, SIZE[1]))
    channels = 250
    seen = Appearance(SIZE, [[Map(np.zeros((*SIZE, channels), np.float32), everywhere, everywhere)]])

    def lesson(images: int) -> int:
        return len(pixel_lessons(sample, seen, ["Cell"], np.random.default_rng(0), images).features)

    assert lesson(1) == lesson(75) > 3500
    assert 0.8 * MOST_FEATURES < 1000 * lesson(1000) * channels <= MOST_FEATURES
