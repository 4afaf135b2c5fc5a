"""The training loop of the base weights: resumable, on a GPU when there is one, on every core when there is not."""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from maskloop.learn.base.batches import BATCH, Batches, Recipe
from maskloop.learn.base.data import Sample
from maskloop.learn.base.loss import click_loss, edge_band
from maskloop.learn.base.turns import Turns
from maskloop.segment.clicknet_encoder import normalised
from maskloop.segment.clicknet_net import ClickNetwork
from maskloop.segment.device import device as where

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
SAVE_SECONDS = 120.0


class Trainer:
    """One run in ``folder``: continues from its checkpoint when there is one.

    Without one it begins with the encoder ``initial`` and an untrained decoder, or with the weights ``start``: a
    model's, or the averaged ones of another run's checkpoint.
    """

    def __init__(
        self, data: Path, initial: Path | None, folder: Path, recipe: Recipe, device: str, start: Path | None = None
    ) -> None:
        self.recipe, self.folder, self.data = recipe, folder, data
        self.device = where(device)
        self.half = self.device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())
        torch.manual_seed(recipe.seed)
        self.net = ClickNetwork()
        if initial is not None:
            self.net.encoder.load_initial(load_file(initial))
        if start is not None:
            self._start(start)
        self.net.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Whole views in threads of their own keep cores busier than one view's operations shared among threads.
        workers = 1 if self.device.type == "cuda" else min(torch.get_num_threads(), recipe.batch)
        self.replicas = [self.net, *(deepcopy(self.net) for _ in range(1, workers))]
        self.pool = ThreadPoolExecutor(len(self.replicas), initializer=torch.set_num_threads, initargs=(1,))
        # A GPU answers faster than one core looks where its answers are wrong.
        self.clickers = ThreadPoolExecutor(min(8, os.cpu_count() or 1)) if self.device.type == "cuda" else None
        groups = [
            {"params": list(self.net.encoder.parameters()), "peak": recipe.encoder_rate},
            {"params": list(self.net.decoder.parameters()), "peak": recipe.rate},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=0.01)
        self.ema = {name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()}
        self.iteration, self.seconds = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).is_file():
            self._resume()

    def run(self, report: Callable[[float, dict[str, float]], None], most: int | None = None) -> None:
        """Train to the end of the recipe, or for ``most`` iterations; ``report(progress, figures)`` now and then."""
        loader = DataLoader(
            Batches(self.data, self.recipe, self.iteration),
            batch_size=None,
            num_workers=1 if self.device.type == "cpu" else max(1, (os.cpu_count() or 1) - 4),
            prefetch_factor=4,
            multiprocessing_context="spawn",  # a forked worker can inherit a lock that a thread of this process holds
        )
        started, done, saved = time.monotonic() - self.seconds, self.iteration, -math.inf
        sums: dict[str, list[float]] = defaultdict(list)
        for samples in loader:
            progress = self.seconds / (3600 * self.recipe.hours)
            if progress >= 1 or (most is not None and self.iteration - done >= most):
                break
            for name, value in self.step(samples, progress).items():
                sums[name].append(value)
            self.iteration += 1
            self.seconds = time.monotonic() - started
            if self.iteration % 20 == 0:
                report(progress, self._logged(sums, progress))
                sums.clear()
            if time.monotonic() - saved > SAVE_SECONDS:
                self.save()
                saved = time.monotonic()
        if sums or not (self.folder / LOG).is_file():
            self._logged(sums, self.seconds / (3600 * self.recipe.hours))
        self.save()

    def _logged(self, sums: dict[str, list[float]], progress: float) -> dict[str, float]:
        """The means of what was measured since the last line of the log, which gets another one."""
        figures = {name: float(np.mean(values)) for name, values in sums.items()}
        figures |= {"iteration": self.iteration, "seconds": self.seconds, "progress": progress}
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({k: round(v, 5) for k, v in figures.items()}) + "\n")
        return figures

    def step(self, samples: list[Sample], progress: float) -> dict[str, float]:
        """One batch, shared among the replicas; the mean of their gradients, by sample, moves the weights."""
        recipe, warm = self.recipe, min(1.0, (self.iteration + 1) / 60)
        decay = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * warm * decay * math.sqrt(recipe.batch / BATCH)
        tuned = progress >= recipe.encoder_start and self.iteration % recipe.encoder_every == 0
        rng = np.random.default_rng((recipe.seed, self.iteration, 11))
        turns = int(rng.choice([1, 2, 3, 4], p=[0.15, 0.35, 0.3, 0.2]))
        workers = min(len(self.replicas), len(samples))
        parts = [samples[i::workers] for i in range(workers)]
        found = list(self.pool.map(lambda i: self._learn(i, parts[i], turns, tuned), range(workers)))
        shares = [len(part) / len(samples) for part in parts]
        for parameters in zip(*(net.parameters() for net in self.replicas[:workers]), strict=True):
            gradients = [p.grad * share for p, share in zip(parameters, shares, strict=True) if p.grad is not None]
            parameters[0].grad = torch.stack(gradients).sum(0) if gradients else None
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        rate = min(recipe.ema, (1 + self.iteration) / (10 + self.iteration))
        with torch.no_grad():
            for name, tensor in self.net.state_dict().items():
                self.ema[name].lerp_(tensor, 1 - rate)
        return {name: float(np.average([f[name] for f in found], weights=shares)) for name in found[0]}

    def _learn(self, replica: int, samples: list[Sample], turns: int, tuned: bool) -> dict[str, float]:
        """Gradients of one replica: encode once, answer a few prompts, each followed by a correction."""
        net = self.replicas[replica]
        if replica:
            net.load_state_dict(self.net.state_dict())
        net.zero_grad(set_to_none=True)
        rng = np.random.default_rng((self.recipe.seed, self.iteration, 13, replica))
        with self._autocast(), torch.set_grad_enabled(tuned):
            features = net.encoder(normalised(self._tensor(np.stack([s.pixels for s in samples]))))
        leaves = {name: f.detach().requires_grad_(tuned) for name, f in features.items()}
        truth = self._tensor(np.stack([s.truth for s in samples]))[:, None].float()
        valid = torch.ones_like(truth)
        band = edge_band(truth, valid)
        turn = Turns(samples, self.device)
        figures: dict[str, float] = {}
        for number in range(turns):
            with self._autocast():
                logits, judged = net.decoder(leaves, turn.prompts())
            ambiguous = turn.ambiguous()
            loss, iou = click_loss(logits.float(), judged.float(), truth, valid, band, ambiguous)
            (loss / turns).backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                chosen = judged.argmax(1)
                picked = torch.arange(len(samples))
                figures[f"loss{number + 1}"] = float(loss)
                figures[f"iou{number + 1}"] = float(iou[picked, chosen].mean())
                figures[f"best{number + 1}"] = float(iou.amax(1).mean())
                if number + 1 < turns:
                    turn.correct(logits[picked, chosen].sigmoid(), rng, self.clickers)
        if tuned:
            gradients = [leaf.grad for leaf in leaves.values()]
            torch.autograd.backward(list(features.values()), gradients)
        return figures

    def _start(self, path: Path) -> None:
        """Weights from elsewhere; layers that they lack stay new. Raises ValueError for those of another network."""
        tensors = load_file(path)
        averaged = {name[4:]: t for name, t in tensors.items() if name.startswith("ema.")}
        found = self.net.load_state_dict({n: t.float() for n, t in (averaged or tensors).items()}, strict=False)
        if found.unexpected_keys:
            raise ValueError(f"{path} is not a clicknet: what is {found.unexpected_keys[0]}?")

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        tensors |= {f"ema.{name}": tensor for name, tensor in self.ema.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        facts = {"iteration": self.iteration, "seconds": self.seconds, "recipe": asdict(self.recipe)}
        partial = self.folder / f"{CHECKPOINT}.partial"
        save_file(kept, partial, {"facts": json.dumps(facts)})
        partial.replace(self.folder / CHECKPOINT)

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
        tensors = load_file(path)
        self.iteration, self.seconds = int(facts["iteration"]), float(facts["seconds"])
        self.net.load_state_dict({n[4:]: t for n, t in tensors.items() if n.startswith("net.")})
        self.ema = {n[4:]: t.to(self.device) for n, t in tensors.items() if n.startswith("ema.")}
        state: dict[int, dict[str, Tensor]] = defaultdict(dict)
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state[int(index)][key] = tensor
        packed = self.optimizer.state_dict()
        packed["state"] = dict(state)
        self.optimizer.load_state_dict(packed)

    def _tensor(self, array: np.ndarray) -> Tensor:  # type: ignore[type-arg]
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)
