"""Small randomly initialised checkpoints of the SAM family, saved as the hub has them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from maskloop.segment.card import Card, write_card

KINDS = ("sam", "sam_hq", "sam2", "sam2_video")
"""``sam2_video`` is what the hub's SAM 2.1 checkpoints say they are."""


def save_checkpoint(folder: Path, kind: str, seed: int = 0, lively: bool = False) -> None:
    """config.json and model.safetensors of a network of the given kind, a few hundred kB.

    transformers begins with weights so small that hardly anything of the image or the prompt gets through layers
    this narrow; ``lively`` makes them large enough to be learned from.
    """
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    parts: dict[str, Any]
    if kind.startswith("sam2"):
        hiera = {
            "model_type": "sam2_hiera_det_model",
            "image_size": [128, 128],
            "hidden_size": 8,
            "blocks_per_stage": [1, 1, 2, 1],
            "embed_dim_per_stage": [8, 16, 32, 64],
            "num_attention_heads_per_stage": [1, 1, 1, 1],
            "window_size_per_stage": [4, 4, 4, 4],
            "global_attention_blocks": [3],
            "window_positional_embedding_background_size": [4, 4],
        }
        vision = {
            "model_type": "sam2_vision_model",
            "backbone_config": hiera,
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": 32,
        }
        parts = {
            "vision_config": vision,
            "prompt_encoder_config": {"hidden_size": 32, "image_size": 128},
            "mask_decoder_config": {
                "hidden_size": 32,
                "mlp_dim": 32,
                "num_attention_heads": 2,
                "iou_head_hidden_dim": 32,
            },
        }
        if kind == "sam2_video":
            # As a dict some versions (5.17) take it for the prompt encoder's.
            parts["mask_decoder_config"] = transformers.Sam2VideoMaskDecoderConfig(**parts["mask_decoder_config"])
            config = transformers.Sam2VideoConfig(
                **parts, image_size=128, memory_attention_hidden_size=32, memory_encoder_hidden_size=32
            )
            model = transformers.Sam2VideoModel(config)
        else:
            model = transformers.Sam2Model(transformers.Sam2Config(**parts))
    else:
        parts = {
            "vision_config": {
                "hidden_size": 16,
                "output_channels": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 128,
                "window_size": 4,
                "global_attn_indexes": [1],
                "num_pos_feats": 16,
                "mlp_dim": 32,
            },
            "prompt_encoder_config": {
                "hidden_size": 32,
                "image_size": 128,
                "image_embedding_size": 8,
            },
            "mask_decoder_config": {
                "hidden_size": 32,
                "mlp_dim": 32,
                "num_attention_heads": 2,
                "iou_head_hidden_dim": 32,
            },
        }
        if kind == "sam_hq":
            parts["mask_decoder_config"]["vit_dim"] = 16
            model = transformers.SamHQModel(transformers.SamHQConfig(**parts))
        else:
            model = transformers.SamModel(transformers.SamConfig(**parts))
    if lively:
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight.normal_(0, weight[0].numel() ** -0.5)
    model.save_pretrained(folder)


def save_model(root: Path, kind: str, name: str = "", lively: bool = False) -> Path:
    """A model's folder: a checkpoint and its card."""
    folder = root / (name or kind.replace("_", "-"))
    save_checkpoint(folder, kind, lively=lively)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    files = {"model.safetensors": digest, "config.json": ""}
    write_card(folder, Card(folder.name, "sam", "Apache-2.0", "tiny, random", files=files))
    return folder
