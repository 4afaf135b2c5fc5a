"""Where a network runs."""

from __future__ import annotations

import re

import torch

from maskloop.segment.card import ModelError


def device(name: str) -> torch.device:
    """The device of that name; "auto" is the first GPU, else the CPU. Raises ModelError when it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,2})?", name):
        raise ModelError(f"no device {name!r}: MASKLOOP_DEVICE (or --device) is auto, cpu, cuda or cuda:N")
    chosen = torch.device(name)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices; "
            "set MASKLOOP_DEVICE (or --device) to cpu or auto"
        )
    return chosen


def device_or_cpu(name: str) -> torch.device:
    """The device of that name, and the CPU where it is not there: for work that may be slow."""
    try:
        return device(name)
    except ModelError:
        return torch.device("cpu")


def half_precision(where: torch.device) -> bool:
    """Whether bfloat16 makes the encoder faster there: on a GPU, or a CPU with instructions for it."""
    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
