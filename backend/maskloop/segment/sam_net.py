"""The networks of the SAM family behind one face: features once, masks often, the decoder trainable.

Three architectures, read by transformers from a folder in the hub's format: SAM (Kirillov
et al., 2023), SAM-HQ (Ke et al., 2023) and the image part of SAM 2 (Ravi et al., 2024).
Their image processors need torchvision and are not used; what they do is a few lines here.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from maskloop.segment.card import SAM_EXTRA, ModelError
from maskloop.segment.prompt import Image

Features: TypeAlias = Mapping[str, Tensor]
"""What the encoder saw, by name, each with a leading batch axis."""

ARCHITECTURES = {"sam": "SamModel", "sam_hq": "SamHQModel", "sam2": "Sam2Model", "sam2_video": "Sam2Model"}
"""``model_type`` of a config.json to the class of transformers; SAM 2's hub checkpoints are the video model's."""
MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
SPREAD = np.array([0.229, 0.224, 0.225], np.float32) * 255
AT_ENCODING = ("mask_decoder.conv_s0.", "mask_decoder.conv_s1.")
"""Parts of SAM 2's decoder that already acted on what the cache keeps, so that they must not be trained."""


class SamNet(nn.Module):
    """One SAM. ``side`` is its square input in pixels, ``low`` the side of the logits it answers."""

    def __init__(self, model: Any, kind: str) -> None:
        super().__init__()
        self.model = model
        self.kind = "sam2" if kind == "sam2_video" else kind
        vision = model.config.vision_config
        size = vision.backbone_config.image_size if self.kind == "sam2" else vision.image_size
        self.side = int(size if isinstance(size, int) else size[0])
        prompts = model.config.prompt_encoder_config
        grid = prompts.image_size // prompts.patch_size if self.kind == "sam2" else prompts.image_embedding_size
        self.low = 4 * int(grid)

    @property
    def padded(self) -> bool:
        """Whether the image keeps its shape and is padded to a square (SAM), or is stretched to one (SAM 2)."""
        return self.kind != "sam2"

    def features(self, pixels: Tensor) -> dict[str, Tensor]:
        """What the encoder sees in B x 3 x side x side normalised pixels. No gradients."""
        with torch.no_grad():
            if self.kind == "sam2":
                fine, middle, image = self.model.get_image_embeddings(pixels)
                return {"image": image, "middle": middle, "fine": fine}
            if self.kind == "sam_hq":
                image, early = self.model.get_image_embeddings(pixels)
                # Tokens x channels: as rows x columns x channels it would be taken for a stack of maps.
                return {"image": image, "early": early[0].flatten(1, 2)}
            return {"image": self.model.get_image_embeddings(pixels)}

    def forward(
        self,
        features: Features,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        several: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Mask logits B x M x low x low and predicted IoU B x M; differentiable in the decoder's parameters.

        ``points`` B x N x 2 (x, y) and ``boxes`` B x 4 (x0, y0, x1, y1) are in input pixels, 0 the centre of
        the first; ``labels`` B x N are 1, 0, or -10 for none. ``masks`` B x low x low are logits to start
        from. M is 3 with ``several``, else 1. At least one of points and boxes must be there.
        """
        answer = self.model(
            **self._seen(features),
            input_points=None if points is None else points[:, None],
            input_labels=None if labels is None else labels[:, None],
            input_boxes=None if boxes is None else boxes[:, None],
            input_masks=None if masks is None else masks[:, None],
            multimask_output=several,
        )
        return answer.pred_masks[:, 0], answer.iou_scores[:, 0]

    def _seen(self, features: Features) -> dict[str, Any]:
        if self.kind == "sam2":
            return {"image_embeddings": [features["fine"], features["middle"], features["image"]]}
        if self.kind == "sam_hq":
            image, early = features["image"], features["early"]
            early = early.reshape(len(early), *image.shape[-2:], -1)
            return {"image_embeddings": image, "intermediate_embeddings": [early]}
        return {"image_embeddings": features["image"]}

    def decoder(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Name and parameter of all that may be trained without spoiling a cached embedding."""
        for name, parameter in self.model.named_parameters():
            # The shared embedding is fixed random frequencies, the same for prompts and for the image's pixels.
            fixed = name.startswith(AT_ENCODING) or "shared_embedding" in name
            if name.startswith(("mask_decoder.", "prompt_encoder.")) and not fixed:
                yield name, parameter

    def twin(self) -> SamNet:
        """A copy with a decoder of its own; the encoder, nearly all of the weights, is the same one."""
        encoder = self.model.vision_encoder
        return copy.deepcopy(self, {id(encoder): encoder})

    def load_decoder(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a retrained decoder in place. Raises ModelError when it is not this architecture's."""
        own = dict(self.decoder())
        if set(tensors) != set(own) or any(tensors[name].shape != own[name].shape for name in own):
            raise ModelError("the retrained decoder does not fit its base model: names or shapes differ")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])

    def pixels(self, image: Image) -> NDArray[np.float32]:
        """An H x W x 3 image as the encoder's input, 3 x side x side."""
        width, height = self.fitted(image.shape[1], image.shape[0])
        shrinking = width < image.shape[1]
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
        square = np.zeros((self.side, self.side, 3), np.float32)
        square[:height, :width] = (small.astype(np.float32) - MEAN) / SPREAD
        return np.ascontiguousarray(square.transpose(2, 0, 1))

    def fitted(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that an image has inside the square input."""
        if not self.padded:
            return self.side, self.side
        scale = self.side / max(width, height)
        return max(1, round(width * scale)), max(1, round(height * scale))


def read_net(folder: Path) -> SamNet:
    """The network in a folder with ``config.json`` and ``model.safetensors``. Nothing is downloaded or executed.

    Raises ModelError when transformers is missing, the architecture is unknown or a weight is not there.
    """
    try:
        import transformers
        from transformers.utils import logging as noise
    except ImportError:
        raise ModelError(f"this model needs transformers: {SAM_EXTRA}") from None
    try:
        kind = json.loads((folder / "config.json").read_text()).get("model_type")
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}") from None
    if kind not in ARCHITECTURES:
        raise ModelError(f"{folder / 'config.json'}: model_type {kind!r} is none of {', '.join(ARCHITECTURES)}")
    noise.set_verbosity_error()
    noise.disable_progress_bar()
    try:
        model, report = getattr(transformers, ARCHITECTURES[kind]).from_pretrained(
            str(folder),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder}: the checkpoint cannot be read: {error}") from None
    # transformers would go on with random numbers in the place of what is missing.
    if wrong := sorted(report["missing_keys"]) or sorted(str(key) for key in report["mismatched_keys"]):
        raise ModelError(f"{folder}: the weights lack {wrong[0]} (and {len(wrong) - 1} more): not a whole checkpoint")
    return SamNet(model.eval().requires_grad_(False), kind)
