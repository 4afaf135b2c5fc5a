"""clicknet's answers as its next looks need them, and what of a mask is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn import functional

from maskloop.segment.clicknet_decoder import PromptMaps
from maskloop.segment.clicknet_view import Map, Window, around, bounds, resized
from maskloop.segment.postprocess import pixel
from maskloop.segment.prompt import Point, Prompt

Features = dict[str, torch.Tensor]

MARGIN = 1.4
"""Side of a window against that of what is in it."""
LEAST_WINDOW = 64
"""Smallest side of a window, in pixels."""
LEAST_SCORE = 0.05
"""A predicted IoU below this makes a mask no larger."""


@dataclass(frozen=True, eq=False)
class State:
    """An answer as the next click needs it: logits H x W of a window's view, and the predicted IoU."""

    logits: Map
    window: Window
    score: float


@dataclass(frozen=True, eq=False)
class Look:
    """What the decoder is asked of one view or of several of one size: its features, and the prompts in its frame.

    The features of a view's mirror image follow its own, or every view is alone (:func:`clicknet_net.both_ways`).
    ``ahead`` is how far what was learned is preferred, None where it has no say.
    """

    features: Features
    prompts: PromptMaps
    ahead: float | None

    @property
    def shape(self) -> tuple[float | None, ...]:
        """Height and width of the view, whether its mirror image is there too, and who answers."""
        return (*self.prompts.previous.shape[2:], len(self.features["f2"]), self.ahead)

    @property
    def corrects(self) -> bool:
        """Whether there is a mask to correct."""
        return bool((self.prompts.previous > 0.5).any())


def stacked(looks: Sequence[Look]) -> Look:
    """Looks of one shape as one."""
    if len(looks) == 1:
        return looks[0]
    most = max(look.prompts.points.shape[1] for look in looks)
    filled = [
        functional.pad(p, (0, 0, 0, most - p.shape[1]), value=-1.0) for p in (look.prompts.points for look in looks)
    ]
    maps = zip(*(look.prompts.parts()[1:] for look in looks), strict=True)
    return Look(
        {name: torch.cat([look.features[name] for look in looks]) for name in looks[0].features},
        PromptMaps(torch.cat(filled), *(torch.cat(same) for same in maps)),
        looks[0].ahead,
    )


def next_window(prompt: Prompt, state: State, size: tuple[int, int]) -> Window:
    """Where to look: around the mask so far, every click and the box; the last window if it still fits."""
    found = bounds(state.logits > 0)
    across, down = state.window.width / state.logits.shape[1], state.window.height / state.logits.shape[0]
    boxes = [(p.x, p.y, p.x, p.y) for p in prompt.points if p.positive or found is None]
    if found is not None:
        left, top = state.window.x0, state.window.y0
        edges = (left + found[0] * across, top + found[1] * down, left + found[2] * across, top + found[3] * down)
        boxes.append(edges)
        boxes += [(p.x, p.y, p.x, p.y) for p in prompt.points[-1:]]
    if prompt.box is not None:
        boxes.append((prompt.box.x0, prompt.box.y0, prompt.box.x1, prompt.box.y1))
    if not boxes:
        return Window.whole(size)
    x0, y0 = min(b[0] for b in boxes), min(b[1] for b in boxes)
    x1, y1 = max(b[2] for b in boxes), max(b[3] for b in boxes)
    least = LEAST_WINDOW if found is not None else max(size) // 2
    tight, fresh = around(x0, y0, x1, y1, 1.15, 1, size), around(x0, y0, x1, y1, MARGIN, least, size)
    fits = state.window.holds(tight.x0, tight.y0, tight.x1, tight.y1)
    if fits and max(state.window.width, state.window.height) < 1.5 * max(fresh.width, fresh.height):
        return state.window
    return fresh


def cut_off(state: State, size: tuple[int, int]) -> bool:
    """Whether the mask runs into an edge of its window that is not the image's edge."""
    mask, window = state.logits > 0, state.window
    edges = (
        (mask[:, 0], window.x0 > 0),
        (mask[:, -1], window.x1 < size[1]),
        (mask[0], window.y0 > 0),
        (mask[-1], window.y1 < size[0]),
    )
    return any(inside and bool(line.any()) for line, inside in edges)


def generous(logits: Map, score: float) -> Map:
    """The logits of a first answer, raised so that the mask where they are positive has the largest expected overlap.

    With J for the predicted IoU that mask does not end at probability 1/2 but at J / (1 + J), whose logit is log J (for
    Dice: Lipton et al. 2014, "Optimal thresholding of classifiers to maximize F1 measure"): the less sure, the larger.
    """
    raised: Map = logits - np.float32(np.log(max(score, LEAST_SCORE)))
    return raised


def relevant(logits: Map, window: Window, prompt: Prompt) -> Map:
    """The logits with the pieces put out that no positive click or stroke, box or prior mask touches."""
    mask = logits > 0
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return logits
    height, width = logits.shape
    across, down = width / window.width, height / window.height
    anchors = np.zeros(logits.shape, bool)
    for point in prompt.points:
        if point.positive and window.holds(point.x, point.y, point.x, point.y):
            moved_point = Point((point.x - window.x0) * across, (point.y - window.y0) * down)
            x, y = pixel(moved_point, logits.shape)
            anchors[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = True
    masks = [s.mask for s in prompt.scribbles if s.positive]
    masks += [prompt.prior] if prompt.prior is not None else []
    for other in masks:
        part = other[window.y0 : window.y1, window.x0 : window.x1].astype(np.float32)
        anchors |= resized(part, (height, width)) > 0.3
    if not anchors.any() and prompt.box is not None:
        b = prompt.box
        x0, x1 = (int((x - window.x0) * across) for x in (b.x0, b.x1))
        y0, y1 = (int((y - window.y0) * down) for y in (b.y0, b.y1))
        anchors[max(y0, 0) : max(y1, 1), max(x0, 0) : max(x1, 1)] = True
    touched = np.unique(labels[anchors & mask])
    if not len(touched):
        return logits
    result: Map = np.where(mask & ~np.isin(labels, touched), -np.abs(logits) - 1, logits)
    return result
