"""clicknet's network from a model's folder, and a retrained decoder back into one."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from maskloop.segment.card import read_card
from maskloop.segment.clicknet_net import ClickNetwork


def load_network(folder: Path) -> ClickNetwork:
    """The network in single precision, ready to be trained."""
    network = ClickNetwork()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(_weights(folder)).items()})
    return network


def save_decoder(start: Path, decoder: dict[str, Tensor], folder: Path) -> None:
    """The weights of ``start`` with another decoder, in the precision and under the file name of ``start``."""
    source = _weights(start)
    with safe_open(source, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(source)
    for name, value in decoder.items():
        kept = tensors[f"decoder.{name}"]
        tensors[f"decoder.{name}"] = value.to(kept.dtype).contiguous()
    save_file(tensors, folder / source.name, metadata=metadata)


def _weights(folder: Path) -> Path:
    return folder / read_card(folder).weights[0]
