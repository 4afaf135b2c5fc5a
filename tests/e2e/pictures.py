"""Synthetic photographs whose objects are where the tests click."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 640, 480
DISC = (30.0, 40.0)
"""Centre of the disc in percent; its radius is 15 % of the width."""
BLOCK = (60.0, 50.0, 90.0, 85.0)
"""Corners of the bright block in percent: x0, y0, x1, y1."""


def pixels(seed: int = 7) -> np.ndarray:
    """A disc and a block on dark noise, (480, 640, 3) uint8."""
    noise = np.random.default_rng(seed).integers(0, 24, (HEIGHT, WIDTH, 3))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = noise + np.array([40, 44, 48])
    disc = (x - DISC[0] * WIDTH / 100) ** 2 + (y - DISC[1] * HEIGHT / 100) ** 2 < (0.15 * WIDTH) ** 2
    picture[disc] = noise[disc] + np.array([220, 200, 60])
    x0, y0, x1, y1 = BLOCK
    block = (x >= x0 * 6.4) & (x < x1 * 6.4) & (y >= y0 * 4.8) & (y < y1 * 4.8)
    picture[block] = noise[block] + np.array([60, 190, 220])
    return picture.astype(np.uint8)


def png(seed: int = 7) -> bytes:
    return _encoded(Image.fromarray(pixels(seed)), "PNG")


@dataclass(frozen=True)
class Ringed:
    """A picture of ringed discs, of which the cores are wanted: a model that never saw them takes the ring with it."""

    pixels: np.ndarray
    masks: list[np.ndarray]
    centres: list[tuple[float, float]]
    """In percent, x before y."""

    def png(self) -> bytes:
        return _encoded(Image.fromarray(self.pixels), "PNG")


def ringed(seed: int) -> Ringed:
    """Two ringed discs and a bright block on dark noise; no two seeds have them at the same places."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 24, (HEIGHT, WIDTH, 3))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = noise + np.array([40, 44, 48])
    picture[380:440, 250:400] = noise[380:440, 250:400] + np.array([60, 190, 220])
    masks, centres = [], []
    for middle in (165, 475):
        column, row, radius = middle + rng.integers(-50, 50), 190 + rng.integers(-60, 60), rng.integers(65, 95)
        away = np.hypot(x - column, y - row)
        picture[away < radius] = noise[away < radius] + np.array([220, 200, 60])
        picture[away < 0.5 * radius] = noise[away < 0.5 * radius] + np.array([150, 30, 60])
        masks.append(away < 0.5 * radius)
        centres.append((100 * column / WIDTH, 100 * row / HEIGHT))
    return Ringed(picture.astype(np.uint8), masks, centres)


def turned_jpeg() -> bytes:
    """The same picture as a camera held upright stores it: turned, with EXIF orientation 6 to turn it back."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(pixels()).transpose(Image.Transpose.ROTATE_90)
    return _encoded(stored, "JPEG", exif=exif, quality=95)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
