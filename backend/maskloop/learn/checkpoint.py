"""A training's checkpoint: where it stands, on disk, so that one that was killed goes on."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from maskloop.learn.curriculum import Weights
from maskloop.learn.samples import Sample

CHECKPOINT = "checkpoint.safetensors"
MOMENTA = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW remembers of a parameter."""


@dataclass
class Course:
    """What happened so far: the decoder to keep, the best validation IoU, and this after 1 and 3 clicks by step."""

    best: dict[str, Tensor]
    best_value: float
    step: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float, float, float]] = field(default_factory=list)
    """Step, mean training loss since the last entry, validation IoU after 1 click, after 3 clicks."""


def state(weights: Weights) -> dict[str, Tensor]:
    """The weights as they are now."""
    return {name: value.detach().clone() for name, value in weights.items()}


def key(plan: object, train: Sequence[Sample], validation: Sequence[Sample], start: Weights) -> str:
    """What a checkpoint must agree on to be continued: plan, data and the weights it began with."""
    digest = hashlib.sha256(repr(plan).encode())
    for sample in [*train, *validation]:
        digest.update(f"{sample.content} {[t.digest for t in sample.targets]}".encode())
    for value in start.values():
        digest.update(value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def save(path: Path, key: str, weights: Weights, optimizer: torch.optim.Optimizer, course: Course) -> None:
    """Write a checkpoint, whole or not at all."""
    tensors = {f"now.{name}": value for name, value in state(weights).items()}
    tensors |= {f"best.{name}": value for name, value in course.best.items()}
    for name, parameter in weights.items():
        # A parameter that no loss has reached yet has no momentum.
        if found := optimizer.state.get(parameter):
            tensors |= {f"{part}.{name}": found[part] for part in MOMENTA}
    about = {"step": course.step, "seconds": course.seconds, "best_value": course.best_value, "curve": course.curve}
    # A name of its own: a training that was taken over may not know it yet.
    partial = path.with_suffix(f".{uuid.uuid4().hex[:8]}.partial")
    metadata = {"key": key, "about": json.dumps(about)}
    try:
        save_file({name: value.contiguous() for name, value in tensors.items()}, partial, metadata=metadata)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def resume(path: Path, key: str, weights: Weights, optimizer: torch.optim.Optimizer) -> Course | None:
    """Put a checkpoint's weights and momenta in place. None, and nothing changed, if there is none of this ``key``."""
    try:
        with safe_open(path, "pt") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
            if metadata.get("key") != key:
                return None
            about = json.loads(metadata["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, SafetensorError, KeyError, ValueError):
        return None
    for name, parameter in weights.items():
        with torch.no_grad():
            parameter.copy_(tensors[f"now.{name}"])
        if f"step.{name}" in tensors:
            # The step is a number that AdamW keeps on the CPU, wherever the parameter is.
            momenta = {part: tensors[f"{part}.{name}"] for part in MOMENTA}
            optimizer.state[parameter] = {n: v if n == "step" else v.to(parameter.device) for n, v in momenta.items()}
    best = {n.removeprefix("best."): v for n, v in tensors.items() if n.startswith("best.")}
    curve = [(int(a), float(b), float(c), float(d)) for a, b, c, d in about["curve"]]
    return Course(best, float(about["best_value"]), int(about["step"]), float(about["seconds"]), curve)
