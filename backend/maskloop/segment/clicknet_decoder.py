"""clicknet's decoder: features, prompts and the previous mask to three masks with a predicted IoU each.

Late fusion: prompts never enter the encoder. Clicks act as places (discs and decaying
distances) and as examples (cosine similarity of every pixel to the features under each
click); an earlier mask or a box gives a foreground and a background example too. Several
masks answer the ambiguity of a first click (Kirillov et al. 2023); feeding the previous
mask back follows RITM (Sofiiuk et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskloop.segment.clicknet_encoder import CHANNELS
from maskloop.segment.depthwise import Depthwise

MASKS = 3
DISC = 3.0
"""Radius of a click's disc in view pixels."""
DECAYS = (8.0, 32.0, 128.0)
"""Length scales, in view pixels, of the maps that fall off with the distance to the nearest click."""
MAPS = 2 + 2 * len(DECAYS) + 4
LIKENESS = 5
"""Channels of similarity with the prompts at each level."""
LEVELS = {"s16": 48, "s8": 32, "s4": 16, "s2": 12}
"""Dimensions of the spaces in which pixels are compared with clicks, by level."""
WIDTHS = {"s16": 128, "s8": 80, "s4": 48, "s2": 24}


@dataclass(frozen=True)
class PromptMaps:
    """Prompts of a batch in the frame of a view of H x W pixels.

    ``points`` B x N x 3: column and row of the clicked pixel (0 is the centre of the first
    pixel) and 1 for positive, 0 for negative, -1 for none. ``box`` B x 1 x H x W, 1 inside,
    all 0 without a box. ``scribbles`` B x 2 x H x W: where the positive, the negative brush
    passed. ``previous`` B x 1 x H x W, probability of the mask so far, all 0 without one.
    """

    points: Tensor
    box: Tensor
    scribbles: Tensor
    previous: Tensor

    def parts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.points, self.box, self.scribbles, self.previous

    def with_mirrored(self) -> PromptMaps:
        """Each view's prompts followed by those of its mirror image, left and right exchanged; 2 B of them."""
        x, y, sign = self.points.unbind(2)
        points = torch.stack([self.previous.shape[3] - 1 - x, y, sign], 2)
        turned = PromptMaps(points, *(maps.flip(3) for maps in self.parts()[1:]))
        pairs = zip(self.parts(), turned.parts(), strict=True)
        return PromptMaps(*(torch.stack(pair, 1).flatten(0, 1) for pair in pairs))


class Block(nn.Module):
    """A residual step: depthwise 5 x 5 to mix places, then two 1 x 1 to mix channels (as ConvNeXt's)."""

    def __init__(self, width: int, kernel: int = 5) -> None:
        super().__init__()
        self.place = Depthwise(width, kernel)
        self.norm = nn.GroupNorm(1, width)
        self.widen = nn.Conv2d(width, 2 * width, 1)
        self.narrow = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.narrow(functional.hardswish(self.widen(self.norm(self.place(x)))))
        return x + y


class Attention(nn.Module):
    """Self-attention over all places of a map; a depthwise 3 x 3 tells it where they are."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.place = Depthwise(width, 3)
        self.norm = nn.LayerNorm(width)
        self.triple = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, width, height, length = x.shape
        x = x + self.place(x)
        tokens = x.flatten(2).transpose(1, 2)
        queries, keys, values = (
            part.reshape(batch, height * length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.triple(self.norm(tokens)).chunk(3, dim=2)
        )
        if queries.device.type == "cpu" and queries.requires_grad:  # the fused one's gradient takes twice as long there
            mixed = (queries * queries.shape[3] ** -0.5 @ keys.transpose(2, 3)).softmax(3).to(values.dtype) @ values
        else:
            mixed = functional.scaled_dot_product_attention(queries, keys, values)
        mixed = self.merge(mixed.transpose(1, 2).reshape(batch, height * length, width))
        y: Tensor = x + mixed.transpose(1, 2).reshape(batch, width, height, length)
        return y


class Decoder(nn.Module):
    """Features by name and PromptMaps to (logits B x 3 x H x W, predicted IoU as logits B x 3)."""

    def __init__(self) -> None:
        super().__init__()
        w16, w8, w4, w2 = WIDTHS["s16"], WIDTHS["s8"], WIDTHS["s4"], WIDTHS["s2"]
        deep = CHANNELS["f16"] + CHANNELS["context"]
        self.maps2 = nn.Conv2d(MAPS, w2, 3, padding=1)
        self.maps4 = nn.Conv2d(MAPS, 24, 3, stride=2, padding=1)
        self.maps8 = nn.Conv2d(24, 32, 3, stride=2, padding=1)
        self.maps16 = nn.Conv2d(32, 48, 3, stride=2, padding=1)
        self.compare16 = nn.Conv2d(deep, LEVELS["s16"], 1)
        self.compare8 = nn.Conv2d(CHANNELS["f8"], LEVELS["s8"], 1)
        self.compare4 = nn.Conv2d(CHANNELS["f4"], LEVELS["s4"], 1)
        self.enter16 = nn.Conv2d(deep, w16, 1)
        self.norm16 = nn.GroupNorm(8, w16)
        self.join16 = nn.Conv2d(48 + LIKENESS, w16, 1)
        self.stage16 = nn.Sequential(Attention(w16), Block(w16), Attention(w16), Block(w16))
        self.down16 = nn.Conv2d(w16, w8, 1)
        self.join8 = nn.Conv2d(CHANNELS["f8"] + 32 + LIKENESS, w8, 1)
        self.stage8 = nn.Sequential(Block(w8), Block(w8))
        self.down8 = nn.Conv2d(w8, w4, 1)
        self.join4 = nn.Conv2d(CHANNELS["f4"] + 24 + LIKENESS, w4, 1)
        self.stage4 = Block(w4)
        self.down4 = nn.Conv2d(w4, w2, 1)
        self.join2 = nn.Conv2d(CHANNELS["f2"], w2, 1)
        self.compare2 = nn.Conv2d(CHANNELS["f2"], LEVELS["s2"], 1)
        self.alike2 = nn.Conv2d(LIKENESS, w2, 1)
        self.stage2 = Block(w2, kernel=3)
        self.masks = nn.Conv2d(w2, MASKS, 3, padding=1)
        self.judge = nn.Sequential(nn.Linear(w16 + 2 * w4 + 4, 96), nn.Hardswish(), nn.Linear(96, 1))
        nn.init.normal_(self.masks.weight, std=0.03)
        if self.masks.bias is not None:
            nn.init.constant_(self.masks.bias, -0.7)
        for layer in (self.alike2, self.stage2.narrow):  # what looks closest begins as nothing
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, features: dict[str, Tensor], prompts: PromptMaps) -> tuple[Tensor, Tensor]:
        maps = prompt_maps(prompts)
        maps4 = functional.hardswish(self.maps4(maps))
        maps8 = functional.hardswish(self.maps8(maps4))
        maps16 = functional.hardswish(self.maps16(maps8))
        deep = torch.cat([features["f16"], features["context"]], dim=1)
        example = example_weights(prompts)
        like16 = likeness(self.compare16(deep), prompts.points, example, 16)
        like8 = likeness(self.compare8(features["f8"]), prompts.points, example, 8)
        like4 = likeness(self.compare4(features["f4"]), prompts.points, example, 4)
        x16 = self.norm16(self.enter16(deep)) + self.join16(torch.cat([maps16, like16], dim=1))
        x16 = self.stage16(x16)
        x8 = self.join8(torch.cat([features["f8"], maps8, like8], dim=1))
        x8 = self.stage8(x8 + enlarged(self.down16(x16), x8))
        x4 = self.join4(torch.cat([features["f4"], maps4, like4], dim=1))
        x4 = self.stage4(x4 + enlarged(self.down8(x8), x4))
        like2 = likeness(self.compare2(features["f2"]), prompts.points, example, 2)
        x2 = self.join2(features["f2"]) + self.maps2(maps) + self.alike2(like2)
        x2 = self.stage2(x2 + enlarged(self.down4(x4), x2))
        low = self.masks(functional.hardswish(x2))
        return enlarged(low, prompts.previous), self._judged(low, x4, x16)

    def _judged(self, low: Tensor, x4: Tensor, x16: Tensor) -> Tensor:
        """Predicted IoU (logits) of each mask from what lies inside it, at its edge, and in the whole view."""
        inside = low.detach()[:, :, ::2, ::2].sigmoid()
        edge = inside * (1 - inside)
        count, rim = inside.sum((2, 3)), edge.sum((2, 3))
        x4 = x4.float()
        pooled = torch.einsum("bkhw,bchw->bkc", inside, x4) / (count + 1)[..., None]
        rimmed = torch.einsum("bkhw,bchw->bkc", edge, x4) / (rim + 1)[..., None]
        whole = x16.float().mean((2, 3))[:, None].expand(-1, MASKS, -1)
        certain = (inside * inside).sum((2, 3)) / (count + 1)
        figures = torch.stack([count.add(1).log(), rim.add(1).log(), rim / (count + 1), certain], dim=2)
        judged: Tensor = self.judge(torch.cat([pooled, rimmed, whole, figures], dim=2))
        return judged[..., 0].float()


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """``x`` resized to the height and width of ``like``; corners stay corners."""
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)


def prompt_maps(prompts: PromptMaps) -> Tensor:
    """Everything about the prompts as MAPS channels at stride 2, values in [0, 1]."""
    height, width = (prompts.previous.shape[2] + 1) // 2, (prompts.previous.shape[3] + 1) // 2
    device = prompts.points.device
    rows = 2.0 * torch.arange(height, device=device)[None, None, :, None]
    columns = 2.0 * torch.arange(width, device=device)[None, None, None, :]
    x, y, sign = (prompts.points[:, :, i, None, None] for i in range(3))
    down, across = (rows - y) ** 2, (columns - x) ** 2
    channels = []
    brushed = torch.zeros_like(prompts.scribbles[:, :, ::2, ::2])
    if bool(prompts.scribbles.any()):
        brushed = functional.max_pool2d(prompts.scribbles, 3, stride=2, padding=1)
    for index, label in enumerate((1.0, 0.0)):
        away = (down + (across + 1e8 * (sign != label))).amin(1, keepdim=True).sqrt()
        brush = brushed[:, index : index + 1]
        channels.append(torch.maximum((DISC + 0.5 - away).clamp(0, 1), brush))
        channels.extend(torch.maximum(torch.exp(-away / decay), brush) for decay in DECAYS)
    given = prompts.box.amax((2, 3), keepdim=True)
    started = (prompts.previous.amax((2, 3), keepdim=True) > 0.5).to(given.dtype)
    channels += [shrunk(prompts.box), given.expand(-1, -1, height, width)]
    channels += [shrunk(prompts.previous), started.expand(-1, -1, height, width)]
    maps = torch.cat(channels, dim=1)
    return maps.contiguous(memory_format=torch.channels_last)


def shrunk(x: Tensor) -> Tensor:
    """Half the resolution, each value the mean around the pixel it keeps."""
    return functional.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


def example_weights(prompts: PromptMaps) -> Tensor:
    """Where the object probably is, at stride 8: the previous mask, else the box, else nowhere. B x 1 x h x w."""
    started = prompts.previous.amax((2, 3), keepdim=True) > 0.5
    weights = torch.where(started, prompts.previous, prompts.box)
    return functional.avg_pool2d(weights, 9, stride=8, padding=4, count_include_pad=False)


def likeness(space: Tensor, points: Tensor, example: Tensor, stride: int) -> Tensor:
    """Cosine similarity of every place to the prompts: B x LIKENESS x h x w.

    Channels: nearest positive click, mean of the positive clicks, nearest negative click
    (0 without such a click), the mean inside ``example``, the mean outside (0 without one).
    """
    space = functional.normalize(space.float(), dim=1, eps=1e-4)
    batch, _, height, width = space.shape
    scale = torch.tensor([2.0 / (stride * max(width - 1, 1)), 2.0 / (stride * max(height - 1, 1))], device=space.device)
    where = (points[:, :, None, :2] * scale - 1.0).clamp(-1, 1)
    clicked = functional.grid_sample(space, where, align_corners=True, padding_mode="border")[..., 0]
    clicked = functional.normalize(clicked, dim=1, eps=1e-4)
    similar = torch.einsum("bcn,bchw->bnhw", clicked, space)
    sign = points[:, :, 2, None, None]
    positive, negative = (sign == 1).to(similar.dtype), (sign == 0).to(similar.dtype)
    any_positive, any_negative = positive.amax(1, keepdim=True), negative.amax(1, keepdim=True)
    nearest = (similar - 2 * (1 - positive)).amax(1, keepdim=True) * any_positive
    mean = (similar * positive).sum(1, keepdim=True) / positive.sum(1, keepdim=True).clamp(min=1)
    other = (similar - 2 * (1 - negative)).amax(1, keepdim=True) * any_negative
    weights = functional.interpolate(example, size=(height, width), mode="bilinear", align_corners=True)
    known = (weights.amax((2, 3), keepdim=True) > 0.05).to(similar.dtype)
    inner = functional.normalize(torch.einsum("bchw,bdhw->bc", space, weights), dim=1, eps=1e-4)
    outer = functional.normalize(torch.einsum("bchw,bdhw->bc", space, 1 - weights), dim=1, eps=1e-4)
    inside = torch.einsum("bc,bchw->bhw", inner, space)[:, None] * known
    outside = torch.einsum("bc,bchw->bhw", outer, space)[:, None] * known
    return torch.cat([nearest, mean, other, inside, outside], dim=1).reshape(batch, LIKENESS, height, width)
