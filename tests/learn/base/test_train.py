from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from maskloop.cli import build
from maskloop.learn.base.batches import Recipe
from maskloop.learn.base.curves import draw_training
from maskloop.learn.base.data import Sample, Samples
from maskloop.learn.base.release import release
from maskloop.learn.base.train import CHECKPOINT, LOG, Trainer
from maskloop.segment.catalog import Catalog
from maskloop.segment.clicknet_net import ClickNetwork

RECIPE = Recipe(hours=1, batch=2, size=65, large=81, encoder_start=0.0, encoder_every=1)


@pytest.fixture(scope="module")
def initial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initial encoder of random weights, named as the real one is."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("initial") / "encoder.safetensors"
    state = ClickNetwork().encoder.state_dict()
    save_file({name.removeprefix("layers."): tensor for name, tensor in state.items()}, path)
    return path


def iterations(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return int(json.loads(file.metadata()["facts"])["iteration"])


def test_training_lowers_the_loss_of_what_it_sees(training_data: Path, initial: Path, tmp_path: Path) -> None:
    trainer = Trainer(training_data, initial, tmp_path, RECIPE, "cpu")
    samples = [Samples(training_data, 1, 65).sample(n) for n in range(2)]
    trainer.iteration = 100
    losses = [trainer.step(samples, 0.5)["loss1"] for _ in range(28)]
    assert min(losses[-4:]) < 0.9 * losses[0]


def test_no_more_threads_than_samples_and_every_sample_counts_the_same(
    training_data: Path, initial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three samples on two threads, one of which has two of them; then on more threads than there are samples."""
    samples = [Samples(training_data, 1, 65).sample(n) for n in range(3)]
    seen: list[tuple[int, ...]] = []

    def learn(trainer: Trainer, replica: int, part: list[Sample], turns: int, tuned: bool) -> dict[str, float]:
        numbers = [next(i for i, sample in enumerate(samples) if sample is mine) for mine in part]
        seen.append(tuple(numbers))
        for parameter in trainer.replicas[replica].parameters():
            parameter.grad = torch.full_like(parameter, float(np.mean(numbers)) * 1e-6)
        return {"loss1": float(np.mean(numbers))}

    monkeypatch.setattr(Trainer, "_learn", learn)
    for threads in (2, 12):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        trainer = Trainer(training_data, initial, tmp_path / str(threads), replace(RECIPE, batch=3), "cpu")
        assert len(trainer.replicas) == min(threads, 3)
        assert trainer.step(samples, 0.5)["loss1"] == pytest.approx(1.0)
        gradient = next(trainer.net.parameters()).grad
        assert gradient is not None
        torch.testing.assert_close(gradient, torch.full_like(gradient, 1e-6))
    assert sorted(seen) == [(0,), (0, 2), (1,), (1,), (2,)]


@pytest.mark.slow
def test_a_run_goes_on_from_its_checkpoint(training_data: Path, initial: Path, tmp_path: Path) -> None:
    first = Trainer(training_data, initial, tmp_path, RECIPE, "cpu")
    first.run(lambda progress, figures: None, most=2)
    assert iterations(tmp_path / CHECKPOINT) == 2
    second = Trainer(training_data, initial, tmp_path, RECIPE, "cpu")
    assert second.iteration == 2
    assert second.seconds > 0
    for name, tensor in first.net.state_dict().items():
        assert torch.equal(tensor, second.net.state_dict()[name])
    assert len(second.optimizer.state_dict()["state"]) == len(first.optimizer.state_dict()["state"]) > 100
    second.run(lambda progress, figures: None, most=1)
    assert iterations(tmp_path / CHECKPOINT) == 3


@pytest.mark.slow
def test_a_checkpoint_becomes_a_model_that_loads(training_data: Path, initial: Path, tmp_path: Path) -> None:
    Trainer(training_data, initial, tmp_path / "run", RECIPE, "cpu").run(lambda progress, figures: None, most=1)
    card = release(tmp_path / "run" / CHECKPOINT, tmp_path / "model", {"noc85": 5.0})
    assert card.metrics["noc85"] == 5.0
    assert Catalog(tmp_path).load(tmp_path / "model", "cpu").name == "clicknet"
    assert (tmp_path / "model" / "weights.safetensors").stat().st_size < 20_000_000


@pytest.mark.slow
def test_another_run_starts_from_averaged_weights(training_data: Path, initial: Path, tmp_path: Path) -> None:
    first = Trainer(training_data, initial, tmp_path / "one", RECIPE, "cpu")
    first.run(lambda progress, figures: None, most=1)
    second = Trainer(training_data, initial, tmp_path / "two", RECIPE, "cpu", tmp_path / "one" / CHECKPOINT)
    assert second.iteration == 0
    for name, tensor in second.net.state_dict().items():
        assert torch.equal(tensor, first.ema[name])


def test_a_start_that_is_no_weights_and_an_unknown_device_are_refused_in_words(
    training_data: Path, initial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    for given, says in (
        (["--start", str(tmp_path / "junk.safetensors")], "--start"),
        (["--device", "gpu"], "--device"),
    ):
        arguments = ["--data", str(training_data), "--output", str(tmp_path / "run"), "--initial", str(initial), *given]
        result = CliRunner().invoke(build(), ["train-base", *arguments])
        assert result.exit_code == 2
        assert says in result.output


def test_curves_are_drawn_from_the_log(tmp_path: Path) -> None:
    rows = [{"seconds": 60.0 * n, "loss1": 2 / (n + 1), "iou1": 0.1 * n} for n in range(8)]
    (tmp_path / LOG).write_text("\n".join(json.dumps(row) for row in rows))
    draw_training(tmp_path / LOG, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


@pytest.mark.slow
def test_a_killed_run_goes_on(training_data: Path, initial: Path, tmp_path: Path) -> None:
    """kill -9 in the middle, then the same command again."""
    command = [sys.executable, "-m", "maskloop", "train-base", "--data", str(training_data), "--initial", str(initial)]
    command += ["--output", str(tmp_path), "--hours", "0.007", "--threads", "1"]
    process = subprocess.Popen(command)
    limit = time.monotonic() + 120
    while not (tmp_path / CHECKPOINT).is_file():
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.2)
    loaders = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, left = psutil.wait_procs(loaders, timeout=30)
    assert loaders
    assert not left, "a killed training leaves processes behind"
    before = iterations(tmp_path / CHECKPOINT)
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert iterations(tmp_path / CHECKPOINT) > before
    assert (tmp_path / "curves.png").is_file()
