"""The bytes of an image file -> the upright RGB pixels that the annotator's browser shows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from maskloop.labelstudio.urls import ImageError
from maskloop.segment.prompt import Image

if TYPE_CHECKING:
    import PIL.Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
"""What browsers show, and TIFF. Pillow knows many more formats, each a door of its own."""


def upright(data: bytes, max_pixels: int) -> Image:
    """The first frame, turned as its EXIF orientation says, H x W x 3.

    Transparent parts come out white; more than 8 bits are scaled down to 8. Raises ImageError.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps, UnidentifiedImageError

    try:
        # Pillow's own guard only warns up to twice this size; the check below is the one that counts.
        Pillow.MAX_IMAGE_PIXELS = max_pixels
        opened = Pillow.open(io.BytesIO(data), formats=FORMATS)
        width, height = opened.size
        if width * height > max_pixels:
            raise ImageError(f"the image has {width} x {height} pixels, {_too_many(max_pixels)}")
        with opened:
            return _rgb(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError:
        raise ImageError(f"the file is no image of a known kind ({', '.join(FORMATS)}).") from None
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning):
        raise ImageError(f"the image has {_too_many(max_pixels)}") from None
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError) as error:
        raise ImageError(f"the image is damaged: {error}.") from None


def _too_many(max_pixels: int) -> str:
    return f"more than {max_pixels / 1e6:g} megapixels (MASKLOOP_MAX_IMAGE_MEGAPIXELS)."


def _rgb(image: PIL.Image.Image) -> Image:
    if image.mode.startswith("I") or image.mode == "F":
        grey = _eight_bits(np.asarray(image))
        return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        from PIL import Image as Pillow

        image = image.convert("RGBA")
        white = Pillow.new("RGBA", image.size, "white")
        image = Pillow.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def _eight_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Grey values of more bits. A camera of 10, 12 or 14 bits fills the lower bits of 16 only."""
    numbers = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(numbers.min()), float(numbers.max())
    if values.dtype.kind == "f" or low < 0 or high > 65535:
        numbers, high = numbers - low, high - low or 1.0
    else:
        high = next(2**bits for bits in (8, 10, 12, 14, 16) if high < 2**bits) - 1
    scaled: NDArray[np.uint8] = (numbers * (255 / high)).round().astype(np.uint8)
    return scaled
