"""Kinds of image files, read as a task's image is."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from PIL import Image

from maskloop.labelstudio.images import FetchOptions, ImageStore

from .server import encoded, pixels

PIXELS = pixels()


def loaded(data: bytes) -> np.ndarray:
    return ImageStore(FetchOptions()).load("data:image/any;base64," + base64.b64encode(data).decode()).pixels


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = loaded(encoded(PIXELS, exif=exif))
    turned = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: np.rot90(PIXELS, 3),
        7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PIXELS),
    }
    assert np.array_equal(found, turned[orientation])


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
def test_formats(kind: str) -> None:
    image = Image.fromarray(PIXELS).quantize(16) if kind == "GIF" else Image.fromarray(PIXELS)
    found = loaded(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    assert np.array_equal(found, np.array(image.convert("RGB")))


def test_jpeg() -> None:
    smooth = np.broadcast_to(np.arange(0, 256, 4, dtype=np.uint8)[:, None, None], (64, 64, 3)).copy()
    assert np.abs(loaded(encoded(smooth, "JPEG", quality=95)).astype(int) - smooth).max() <= 6


def test_palette_with_and_without_transparency() -> None:
    image = Image.fromarray(PIXELS).quantize(16)
    assert np.array_equal(loaded(encoded(image)), np.array(image.convert("RGB")))
    clear = loaded(encoded(image, transparency=0))
    assert (clear[np.array(image) == 0] == 255).all()
    assert np.array_equal(clear[np.array(image) != 0], np.array(image.convert("RGB"))[np.array(image) != 0])


def test_alpha_is_over_white() -> None:
    rgba = np.dstack([PIXELS, np.where(np.arange(30) < 15, 255, 0)[None].repeat(20, 0).astype(np.uint8)])
    found = loaded(encoded(rgba))
    assert np.array_equal(found[:, :15], PIXELS[:, :15])
    assert (found[:, 15:] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "CMYK", "YCbCr"])
def test_other_modes_are_what_pillow_makes_of_them(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode)
    found = loaded(encoded(image, "PNG" if mode in ("1", "L", "LA") else "TIFF"))
    assert np.abs(found.astype(int) - np.array(image.convert("RGB"))).max() <= 1


@pytest.mark.parametrize(("bits", "factor"), [(16, 257), (12, 16), (10, 4), (8, 1)])
def test_more_than_eight_bits(bits: int, factor: int) -> None:
    grey = PIXELS[..., 0].copy()
    grey[0, 0] = 255
    found = loaded(encoded(Image.fromarray(grey.astype(np.uint16) * factor)))
    assert found.shape == (20, 30, 3)
    assert np.abs(found[..., 0].astype(int) - grey).max() <= 1
    assert (found[..., 0] == found[..., 2]).all()


def test_floats_fill_the_range() -> None:
    values = np.linspace(-3, 5, 600, dtype=np.float32).reshape(20, 30)
    found = loaded(encoded(Image.fromarray(values), "TIFF"))
    assert found[0, 0, 0] == 0
    assert found[-1, -1, 0] == 255
    flat = loaded(encoded(Image.fromarray(np.full((4, 4), 7.5, np.float32)), "TIFF"))
    assert len(set(flat.reshape(-1).tolist())) == 1


def test_the_first_frame_of_several() -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    found = loaded(encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]))
    assert np.array_equal(found, PIXELS)
