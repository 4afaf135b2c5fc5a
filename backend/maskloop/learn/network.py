"""clicknet's network from a model's folder, and a retrained decoder of any family in a folder that can be served."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskloop.segment.card import LABELS, read_card, sha256, write_card
from maskloop.segment.clicknet_net import ClickNetwork, network_of
from maskloop.segment.familiarity import Signature
from maskloop.segment.sam import DECODER, TAUGHT_ON, weights_digest

SAM = "sam"


def load_network(folder: Path) -> ClickNetwork:
    """The network in single precision, ready to be trained."""
    return network_of(load_file(_weights(folder)))


def save_version(
    start: Path,
    decoder: Mapping[str, Tensor],
    folder: Path,
    description: str,
    known: Sequence[Signature] = (),
    labels: Sequence[str] = (),
) -> None:
    """Write the model of ``start`` with what its decoder learned: its weights and its card.

    ``known`` are the images it learned on, ``labels`` those of the objects; a SAM answers with one decoder and has no
    use for either.
    """
    card = read_card(start)
    if card.family == SAM:
        # Its encoder is large and stays where it is: the card names the model that has it.
        save_file({name: value.contiguous() for name, value in decoder.items()}, folder / DECODER)
        options = card.options if card.base else {**card.options, TAUGHT_ON: weights_digest(start)}
        card = dataclasses.replace(
            card, base=card.base or card.name, files={DECODER: ""}, source="", revision="", options=options
        )
    else:
        _save_whole(start, decoder, folder, known)
        card = dataclasses.replace(card, options={**card.options, LABELS: json.dumps(labels)})
    files = {name: sha256(folder / name) for name in card.weights}
    write_card(folder, dataclasses.replace(card, files=files, description=description, metrics={}))


def _save_whole(start: Path, decoder: Mapping[str, Tensor], folder: Path, known: Sequence[Signature]) -> None:
    """The weights of ``start`` and a second decoder, in the precision and under the file name of ``start``."""
    source = _weights(start)
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(source)
    for name, value in decoder.items():
        kept = tensors[f"decoder.{name}"]
        tensors[f"learned.{name}"] = value.to(kept.dtype).contiguous()
    if known:
        tensors["known"] = torch.from_numpy(np.stack(known))
    save_file(tensors, folder / source.name, metadata=metadata)


def _weights(folder: Path) -> Path:
    return folder / read_card(folder).weights[0]
