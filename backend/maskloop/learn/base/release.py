"""A checkpoint as a model's folder: averaged weights in half precision and the card that names them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from maskloop.segment.card import Card, sha256, write_card

WEIGHTS = "weights.safetensors"
DESCRIPTION = (
    "Small click network, embedded: encodes an image once, answers each click in a fraction of a second on a CPU"
)


def release(checkpoint: Path, folder: Path, metrics: dict[str, float] | None = None) -> Card:
    """Write ``weights.safetensors`` (float16) and ``model.toml`` into ``folder``; the card."""
    with safe_open(checkpoint, "pt") as file:
        facts = json.loads(file.metadata()["facts"])
        averaged = {name[4:]: file.get_tensor(name) for name in file.keys() if name.startswith("ema.")}  # noqa: SIM118
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: tensor.to(torch.float16).contiguous() for name, tensor in averaged.items()}
    partial = folder / f".{WEIGHTS}"
    save_file(kept, partial, {"iterations": str(facts["iteration"])})
    partial.chmod(0o644)  # safetensors writes files for their owner only
    partial.replace(folder / WEIGHTS)
    card = Card(
        name="clicknet",
        family="clicknet",
        licence="Apache-2.0",
        description=DESCRIPTION,
        source="trained by `maskloop train-base`; see README.md beside this card",
        files={WEIGHTS: sha256(folder / WEIGHTS)},
        metrics=metrics or {},
    )
    write_card(folder, card)
    return card
