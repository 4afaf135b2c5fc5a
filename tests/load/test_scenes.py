from __future__ import annotations

import io

import numpy as np
import requests
from PIL import Image

from maskloop.load.scenes import SceneServer, draw


def test_every_scene_has_its_own_size_and_object() -> None:
    with SceneServer(12) as server:
        assert len({scene.size for scene in server.scenes}) == 12
        for scene in server.scenes:
            image = Image.open(io.BytesIO(requests.get(scene.url, timeout=5).content))
            assert image.size == scene.size
            pixels = np.asarray(image).astype(float).mean(axis=2)
            assert pixels[scene.mask].mean() > pixels[~scene.mask].mean() + 20


def test_a_seed_draws_the_same_scene_again() -> None:
    for first, second in zip(draw(3, seed=1), draw(3, seed=1), strict=True):
        assert np.array_equal(first, second)
    assert not np.array_equal(draw(3, seed=1)[1], draw(3, seed=2)[1])
