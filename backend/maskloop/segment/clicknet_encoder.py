"""clicknet's encoder: MobileNetV2 at output stride 16, batch norm folded into the convolutions.

Architecture: Sandler et al. 2018, with the dilated last stage of DeepLabv3 (Chen et al.
2017). Layer names are those of the initial weights, so a file of either kind loads by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskloop.segment.depthwise import Depthwise

STAGES: tuple[tuple[int, int, int, bool], ...] = (
    (24, 2, 1, False),
    (24, 1, 1, True),
    (32, 2, 1, False),
    (32, 1, 1, True),
    (32, 1, 1, True),
    (64, 2, 1, False),
    (64, 1, 1, True),
    (64, 1, 1, True),
    (64, 1, 1, True),
    (96, 1, 1, False),
    (96, 1, 1, True),
    (96, 1, 1, True),
    (160, 1, 1, False),
    (160, 1, 2, True),
    (160, 1, 2, True),
    (320, 1, 2, False),
)
"""Inverted residuals after the stem: output channels, stride, dilation, whether the input is added."""

TAPS = {1: "f4", 4: "f8", 11: "f16", 15: "context"}
"""Which stages are read off, besides the stem ("f2")."""

CHANNELS = {"f2": 16, "f4": 24, "f8": 32, "f16": 96, "context": 320}
STRIDES = {"f2": 2, "f4": 4, "f8": 8, "f16": 16, "context": 16}


class Encoder(nn.Module):
    """RGB in [-1, 1], B x 3 x H x W with H and W of the form 16 k + 1, to features by name (see CHANNELS, STRIDES).

    A feature at (i, j) of a map of stride s looks at pixel (s i, s j): maps of all strides
    share their corners, so they are resized with ``align_corners=True``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self._add("layer00", 3, 32, kernel=3, stride=2)
        self.layers["layer01"] = Depthwise(32, 3)
        self._add("layer02", 32, 16)
        self.blocks: list[tuple[str, str, str, bool]] = []
        number, width = 3, 16
        for channels, stride, dilation, residual in STAGES:
            names = (f"layer{number:02}", f"layer{number + 1:02}", f"layer{number + 2:02}")
            inner = 6 * width
            self._add(names[0], width, inner)
            self.layers[names[1]] = Depthwise(inner, 3, stride, dilation)
            self._add(names[2], inner, channels)
            self.blocks.append((*names, residual))
            number += 4 if residual else 3  # the addition has a number of its own in the initial weights
            width = channels

    def _add(self, name: str, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        self.layers[name] = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        layers = self.layers
        x = functional.relu6(layers["layer00"](image))
        x = functional.relu6(layers["layer01"](x))
        x = layers["layer02"](x)
        features = {"f2": x}
        for index, (expand, depthwise, project, residual) in enumerate(self.blocks):
            y = functional.relu6(layers[expand](x))
            y = functional.relu6(layers[depthwise](y))
            y = layers[project](y)
            x = x + y if residual else y
            if index in TAPS:
                features[TAPS[index]] = x
        return features

    def load_initial(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over weights named ``layerNN.weight`` and ``layerNN.bias``. Raises RuntimeError for others."""
        self.load_state_dict({f"layers.{name}": tensor for name, tensor in tensors.items()})


def normalised(pixels: Tensor) -> Tensor:
    """B x H x W x 3 uint8 to the encoder's input, channels last in memory."""
    scaled = pixels.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
    return scaled.contiguous(memory_format=torch.channels_last)
