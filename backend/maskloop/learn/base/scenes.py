"""Procedural scenes: textures, shapes of several parts, strokes, defects and cells, drawn from a random generator.

Every function that makes a scene returns (image, masks): H x W x 3 uint8 RGB, and one
H x W bool mask for each thing in it that can be meant.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from maskloop.segment.prompt import Image, Mask

Scene = tuple[Image, list[Mask]]
Field = NDArray[np.float32]


def noise(rng: np.random.Generator, size: int, cell: float) -> Field:
    """Smooth noise, size x size, mean 0, deviation 1; ``cell`` is the size of its blobs in pixels."""
    small = max(2, int(np.ceil(size / cell)) + 1)
    grid = rng.standard_normal((small, small)).astype(np.float32)
    field = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    scaled: Field = (field - field.mean()) / (field.std() + 1e-6)
    return scaled


def colour(rng: np.random.Generator) -> NDArray[np.float32]:
    """A random RGB colour, half of them muted."""
    rgb = rng.uniform(0, 255, 3)
    if rng.random() < 0.5:
        rgb = rgb.mean() + 0.35 * (rgb - rgb.mean())
    return rgb.astype(np.float32)


def texture(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    """A textured ground, size x size x 3, RGB 0 to 255."""
    kind = rng.integers(6)
    base: Field = np.empty((size, size, 3), np.float32)
    base[:] = colour(rng)
    amount = rng.uniform(3, 45)
    if kind == 1:
        base += amount * noise(rng, size, rng.uniform(2, 60))[..., None]
    elif kind == 2:
        for octave in (4, 12, 40):
            base += amount * 0.6 * noise(rng, size, octave)[..., None] * rng.uniform(0.5, 1, 3).astype(np.float32)
    elif kind == 3:
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 40)
        rows, columns = np.mgrid[:size, :size].astype(np.float32)
        wave = np.sin((columns * np.cos(angle) + rows * np.sin(angle)) * 2 * np.pi / period + noise(rng, size, 50))
        base += amount * wave[..., None].astype(np.float32)
    elif kind == 4:
        mix = (noise(rng, size, rng.uniform(10, 80)) > rng.uniform(-1, 1))[..., None]
        base = np.where(mix, base, colour(rng)).astype(np.float32)
    elif kind == 5:
        # Brushed: noise stretched along one direction, as on rolled metal or wood.
        streaks = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), 12, sigmaY=0.6)
        base += amount * (streaks if rng.random() < 0.5 else streaks.T)[..., None] / (streaks.std() + 1e-6) * 0.5
    rows, columns = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    light = rng.uniform(-60, 60) * rows + rng.uniform(-60, 60) * columns
    lit: Field = np.clip(base + light[..., None], 0, 255).astype(np.float32)
    return lit


def outline(rng: np.random.Generator, size: int, centre: tuple[float, float], radius: float) -> Mask:
    """One closed shape: ellipse, polygon, wobbly blob, star, rounded box or ring."""
    mask = np.zeros((size, size), np.uint8)
    kind, turn = rng.integers(6), rng.uniform(0, 2 * np.pi)
    squeeze = rng.uniform(0.3, 1.0)
    if kind in (0, 5):
        axes = (max(1, int(radius)), max(1, int(radius * squeeze)))
        cv2.ellipse(mask, (int(centre[0]), int(centre[1])), axes, float(np.degrees(turn)), 0, 360, 1, -1)
        if kind == 5:
            hole = (max(1, int(axes[0] * 0.55)), max(1, int(axes[1] * 0.55)))
            cv2.ellipse(mask, (int(centre[0]), int(centre[1])), hole, float(np.degrees(turn)), 0, 360, 0, -1)
        return mask.astype(bool)
    if kind == 4:
        corners = np.array([[-1, -squeeze], [1, -squeeze], [1, squeeze], [-1, squeeze]]) * radius * 0.8
    else:
        count = int(rng.integers(3, 8)) if kind == 1 else 48
        angles = np.sort(rng.uniform(0, 2 * np.pi, count)) if kind == 1 else np.linspace(0, 2 * np.pi, count, False)
        reach = np.full(count, radius) * (rng.uniform(0.6, 1, count) if kind == 1 else 1)
        if kind == 2:
            for order in range(2, 7):
                reach = reach * (1 + rng.uniform(0, 0.35) / order * np.sin(order * angles + rng.uniform(0, 6.28)))
        elif kind == 3:
            reach = reach * (0.7 + 0.3 * np.sign(np.sin(angles * rng.integers(3, 8))))
        corners = np.stack([np.cos(angles) * reach, np.sin(angles) * reach * squeeze], 1)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    cv2.fillPoly(mask, [np.round(corners @ spin.T + np.array(centre)).astype(np.int32)], 1)
    return mask.astype(bool)


def painted(rng: np.random.Generator, image: NDArray[np.float32], mask: Mask, contrast: float = 1.0) -> None:
    """Fill ``mask`` with a texture of its own, its edge softened; ``contrast`` < 1 lets the ground through."""
    skin = texture(rng, image.shape[0])
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), rng.uniform(0.3, 1.2))[..., None]
    image += soft * contrast * (skin - image)


def shapes(rng: np.random.Generator, size: int) -> Scene:
    """Things made of parts, lying over one another, some of them repeated; a part is a thing of its own too."""
    image = texture(rng, size)
    whole: list[Mask] = []
    parts: list[Mask] = []
    for _ in range(int(rng.integers(1, 6))):
        radius = size * rng.uniform(0.06, 0.35)
        centre = (float(rng.uniform(0, size)), float(rng.uniform(0, size)))
        body = outline(rng, size, centre, radius)
        for _ in range(int(rng.integers(0, 2))):
            offset = rng.uniform(-0.7, 0.7, 2) * radius
            body |= outline(rng, size, (centre[0] + offset[0], centre[1] + offset[1]), radius * rng.uniform(0.4, 0.8))
        state = rng.bit_generator.state
        painted(rng, image, body, float(rng.choice([1.0, 1.0, 0.5, 0.25])))
        details = []
        for _ in range(int(rng.integers(0, 4))):
            offset = rng.uniform(-0.6, 0.6, 2) * radius
            detail = outline(rng, size, (centre[0] + offset[0], centre[1] + offset[1]), radius * rng.uniform(0.15, 0.4))
            detail &= body
            painted(rng, image, detail)
            details.append(detail)
        for earlier in [*whole, *parts]:
            earlier &= ~body
        whole.append(body)
        parts.extend(details)
        if rng.random() < 0.3:
            # A twin beside it, painted alike: the neighbour of the same kind that must not be included.
            shift = (int(2.1 * radius * rng.choice([-1, 1])), int(rng.uniform(-0.3, 0.3) * radius))
            matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
            twin = cv2.warpAffine(body.astype(np.uint8), matrix, (size, size)).astype(bool) & ~body
            after = rng.bit_generator.state
            rng.bit_generator.state = state
            painted(rng, image, twin)
            rng.bit_generator.state = after
            for earlier in [*whole, *parts]:
                earlier &= ~twin
            whole.append(twin)
    chosen = parts if parts and rng.random() < 0.35 else whole
    return np.clip(image, 0, 255).astype(np.uint8), chosen


def stroke(rng: np.random.Generator, size: int, width: float) -> Mask:
    """A wandering line, as a crack, a scratch, a wire or a vessel."""
    length = int(rng.integers(12, 60))
    bend = rng.uniform(0.02, 0.5)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, length))
    step = size * rng.uniform(0.4, 1.3) / length
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * step, 0)
    path += rng.uniform(0.2, 0.8, 2) * size - path.mean(0)
    mask = np.zeros((size, size), np.uint8)
    for start, end in pairwise(path.round().astype(int).tolist()):
        thick = max(1, round(width * rng.uniform(0.6, 1.4)))
        cv2.line(mask, start, end, 1, thick)
    return mask.astype(bool)


def defects(rng: np.random.Generator, size: int) -> Scene:
    """A surface with one or two faults: a crack, a scratch, a pit or a stain, often of low contrast."""
    image = texture(rng, size)
    if rng.random() < 0.6:
        image[:] = image.mean(2, keepdims=True)
    image += rng.uniform(1, 8) * rng.standard_normal((size, size, 1)).astype(np.float32)
    masks = []
    for _ in range(int(rng.integers(1, 3))):
        kind = rng.integers(3)
        if kind == 0:
            mask = stroke(rng, size, rng.uniform(1, size * 0.03))
        elif kind == 1:
            centre = (float(rng.uniform(0.1, 0.9) * size), float(rng.uniform(0.1, 0.9) * size))
            mask = outline(rng, size, centre, size * rng.uniform(0.015, 0.12))
        else:
            field = noise(rng, size, size * rng.uniform(0.1, 0.4))
            centre = (float(rng.uniform(0.2, 0.8) * size), float(rng.uniform(0.2, 0.8) * size))
            mask = outline(rng, size, centre, size * rng.uniform(0.1, 0.4)) & (field > rng.uniform(-1, 0.5))
        if not mask.any():
            continue
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), rng.uniform(0.4, 1.5))[..., None]
        depth = rng.choice([-1, 1], p=[0.7, 0.3]) * rng.uniform(14, 90)
        if rng.random() < 0.75:
            grain = 1 + 0.3 * noise(rng, size, rng.uniform(2, 10))[..., None]
            image += soft * depth * grain
        else:
            image += soft * rng.uniform(0.4, 1) * (texture(rng, size) - image)
        masks.append(mask)
    return np.clip(image, 0, 255).astype(np.uint8), masks


def cells(rng: np.random.Generator, size: int) -> Scene:
    """A field of cells or grains, touching but not overlapping, all of one kind."""
    bright = rng.random() < 0.6
    image = texture(rng, size) * (0.25 if bright else 1.0)
    taken, masks = np.zeros((size, size), bool), []
    radius, ink = size * rng.uniform(0.03, 0.14), colour(rng)
    if bright:
        ink = ink * 0.5 + 110
    inner = rng.random() < 0.4
    for _ in range(int(rng.integers(4, 28))):
        centre = (float(rng.uniform(0, size)), float(rng.uniform(0, size)))
        cell = outline_of_cell(rng, size, centre, radius * rng.uniform(0.6, 1.4)) & ~taken
        if cell.sum() < 12:
            continue
        taken |= cell
        soft = cv2.GaussianBlur(cell.astype(np.float32), (0, 0), rng.uniform(0.4, 1.6))[..., None]
        shade = ink + rng.normal(0, 18) + rng.uniform(2, 18) * noise(rng, size, radius / 2 + 1)[..., None]
        image += soft * rng.uniform(0.5, 1) * (shade - image)
        if inner:
            core = outline_of_cell(rng, size, centre, radius * 0.4) & cell
            image[core] = 0.6 * image[core] + 0.4 * ink[::-1]
        masks.append(cell)
    return np.clip(image, 0, 255).astype(np.uint8), masks


def outline_of_cell(rng: np.random.Generator, size: int, centre: tuple[float, float], radius: float) -> Mask:
    """A roundish blob."""
    angles = np.linspace(0, 2 * np.pi, 40, False)
    reach = np.full(40, radius)
    for order in range(2, 5):
        reach = reach * (1 + rng.uniform(0, 0.22) / order * np.sin(order * angles + rng.uniform(0, 6.28)))
    squeeze, turn = rng.uniform(0.55, 1), rng.uniform(0, np.pi)
    x, y = np.cos(angles) * reach, np.sin(angles) * reach * squeeze
    corners = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1)
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(corners + np.array(centre)).astype(np.int32)], 1)
    return mask.astype(bool)
