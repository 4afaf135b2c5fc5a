"""Submitted regions to masks, and why some cannot be one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import cv2
import numpy as np

from maskloop.ledger import Region
from maskloop.segment.prompt import Mask

SMALLEST_AREA = 12
"""Pixels; a smaller mask is a slip of the hand."""

MASKS = frozenset({"brushlabels", "polygonlabels"})

DecodeRle: TypeAlias = Callable[[bytes, tuple[int, int]], Mask]
"""Brush RLE and (height, width) to a mask; raises ValueError."""


def is_mask(region: Region) -> bool:
    """Whether there is something to make a mask of."""
    return (region.kind == "brushlabels" and region.rle is not None) or (
        region.kind == "polygonlabels" and region.points is not None
    )


def why_no_mask(region: Region) -> str:
    """Why a region is none."""
    if region.kind not in MASKS:
        return f"{region.kind} is not a mask (a suggestion that was not accepted?)"
    if not region.width or not region.height:
        return "its image size is missing, or more than MASKLOOP_MAX_IMAGE_MEGAPIXELS allows"
    if region.kind == "brushlabels":
        return "its RLE is missing, or holds numbers that are not bytes"
    return "it has no three corners"


def why_no_masks(regions: Sequence[Region]) -> str:
    """Why a submission with these regions holds no mask at all."""
    broken = next((region for region in regions if region.kind in MASKS), None)
    if broken is not None:
        return f"no mask in it: of {broken.id!r}, {why_no_mask(broken)}"
    kinds = sorted({region.kind for region in regions})
    return f"no mask in it, only {', '.join(kinds)} (a suggestion that was not accepted?)" if kinds else "nothing in it"


def mask_of(region: Region, full: tuple[int, int], small: tuple[int, int], decode: DecodeRle) -> Mask:
    """A region of an image of size ``full`` as a mask of size ``small`` (height, width).

    Raises ValueError with why it cannot be one.
    """
    if not is_mask(region):
        raise ValueError(why_no_mask(region))
    if not region.label:
        raise ValueError("it has no label")
    if (region.height, region.width) != full:
        raise ValueError(
            f"it was drawn on an image of {region.width} x {region.height} pixels, which now has {full[1]} x {full[0]}"
        )
    if region.rle is not None:
        mask = decode(region.rle, full)
    else:
        canvas = np.zeros(full, np.uint8)
        cv2.fillPoly(canvas, [np.round(np.array(region.points)).astype(np.int32)], 1)
        mask = canvas.astype(bool)
    area = int(mask.sum())
    if area < SMALLEST_AREA:
        raise ValueError(f"its mask has {area} pixels" if area else "its mask is empty")
    if area > 0.98 * mask.size:
        raise ValueError("its mask covers the whole image")
    if _is_noise(mask):
        raise ValueError("its mask is noise, not an object")
    if full != small:
        shrunk = cv2.resize(mask.astype(np.uint8) * 255, (small[1], small[0]), interpolation=cv2.INTER_AREA)
        mask = np.asarray(shrunk >= 128)
        if int(mask.sum()) < SMALLEST_AREA:
            raise ValueError("its mask vanishes at the size that is trained on")
    return mask


def _is_noise(mask: Mask) -> bool:
    """Whether a mask is speckle: it flips between object and background all over, or falls into crumbs."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    flips = np.count_nonzero(inside[:, 1:] != inside[:, :-1])
    if inside.size >= 400 and flips > 0.25 * inside.size:
        return True
    pieces = cv2.connectedComponents(inside.astype(np.uint8), connectivity=8)[0] - 1
    return pieces > 50 and np.count_nonzero(inside) / pieces < 6
