"""What happens to a view and a prompt before training: light, blur, noise; damaged masks, loose boxes, strokes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from maskloop.learn.clicks import depth
from maskloop.segment.prompt import Image, Mask


def photographed(rng: np.random.Generator, image: Image) -> Image:
    """The same view in other light and through a worse camera."""
    x = image.astype(np.float32)
    if rng.random() < 0.7:
        x = (x - 128) * rng.uniform(0.6, 1.4) + 128 + rng.uniform(-35, 35)
        x *= rng.uniform(0.85, 1.15, 3).astype(np.float32)
    if rng.random() < 0.35:
        grey = x.mean(2, keepdims=True)
        x = grey + (x - grey) * (0.0 if rng.random() < 0.5 else rng.uniform(0.3, 1.6))
    if rng.random() < 0.08:
        x = x[..., ::-1]
    if rng.random() < 0.06:
        x = 255 - x
    if rng.random() < 0.25:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.8)).astype(np.float32)
    if rng.random() < 0.25:
        x = x + rng.standard_normal(x.shape).astype(np.float32) * rng.uniform(1, 14)
    result: Image = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        _, packed = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        result = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return result


def damaged(rng: np.random.Generator, mask: Mask) -> Mask:
    """A mask as another tool or a hasty person would leave it: shrunk, grown, bitten, spilt or shifted."""
    size = max(mask.shape)
    reach = np.sqrt(mask.sum() + 1.0)
    result = mask.astype(np.uint8)
    for kind in rng.choice(5, size=int(rng.integers(1, 3)), replace=False):
        radius = max(1, int(reach * rng.uniform(0.03, 0.15)))
        brush = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        if kind == 0:
            result = cv2.erode(result, brush).astype(np.uint8)
        elif kind == 1:
            result = cv2.dilate(result, brush).astype(np.uint8)
        elif kind == 2:
            shift = rng.uniform(-0.12, 0.12, 2) * reach
            matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
            result = cv2.warpAffine(result, matrix, mask.shape[::-1]).astype(np.uint8)
        else:
            # A bite out of it or a spill beside it, at its outline.
            edge = np.argwhere(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))
            for y, x in edge[rng.integers(len(edge), size=int(rng.integers(1, 4)))] if len(edge) else []:
                axes = tuple(max(1, int(reach * rng.uniform(0.08, 0.45))) for _ in range(2))
                cv2.ellipse(result, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, int(kind == 3), -1)
    if result.sum() < 0.2 * mask.sum() or result.sum() > 4 * mask.sum() + 0.02 * size * size:
        return mask.copy()
    return result.astype(bool)


def misjudged(rng: np.random.Generator, mask: Mask) -> Mask:
    """A mask as a first click brings it that was taken for a part of the thing, or for the thing and what is near."""
    inside = np.argwhere(mask)
    if not len(inside):
        return mask.copy()
    y, x = inside[int(rng.integers(len(inside)))]
    reach = np.sqrt(mask.sum() + 1.0)
    patch = np.zeros(mask.shape, np.uint8)
    axes = tuple(max(1, int(reach * rng.uniform(0.15, 0.6))) for _ in range(2))
    cv2.ellipse(patch, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, 1, -1)
    if rng.random() < 0.6:
        part: Mask = mask & (patch > 0)
        return part
    more: Mask = mask | (cv2.dilate(patch, np.ones((axes[1] + 1, axes[0] + 1), np.uint8)) > 0)
    return more


def loose_box(rng: np.random.Generator, mask: Mask) -> NDArray[np.float32] | None:
    """The box around a mask as a person drags it, as a filled map; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    height, width = mask.shape
    x0, x1, y0, y1 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    spread = 0.05 if rng.random() < 0.8 else 0.15
    dx, dy = rng.normal(0, spread, 2) * (x1 - x0), rng.normal(0, spread, 2) * (y1 - y0)
    x0, x1 = int(np.clip(x0 + min(dx[0], 0.5), 0, width - 2)), int(np.clip(x1 + dx[1] + 1, 2, width))
    y0, y1 = int(np.clip(y0 + min(dy[0], 0.5), 0, height - 2)), int(np.clip(y1 + dy[1] + 1, 2, height))
    box = np.zeros(mask.shape, np.float32)
    box[y0 : max(y1, y0 + 2), x0 : max(x1, x0 + 2)] = 1
    return box


def brushed(rng: np.random.Generator, region: Mask) -> Mask:
    """A brush stroke well inside ``region``: a bent line between two or three of its deeper pixels."""
    stroke = np.zeros(region.shape, np.uint8)
    depths = depth(region)
    deep = np.argwhere(depths > 0.3 * depths.max()) if depths.max() > 0 else np.empty((0, 2), int)
    if len(deep):
        stops = deep[rng.integers(len(deep), size=int(rng.integers(2, 4)))]
        width = max(1, int(min(depths.max() * 0.5, rng.uniform(1, 8))))
        cv2.polylines(stroke, [stops[:, ::-1].astype(np.int32)], False, 1, width)
    return stroke.astype(bool) & region


def scattered(rng: np.random.Generator, region: Mask, count: int, inner: float = 0.3) -> list[tuple[int, int]]:
    """``count`` random pixels (x, y) of the deeper part of a region; fewer when there is none."""
    depths = depth(region)
    if depths.max() <= 0:
        return []
    rows, columns = np.nonzero(depths > inner * min(depths.max(), 25.0))
    picks = rng.integers(len(rows), size=count)
    return [(int(columns[i]), int(rows[i])) for i in picks]
