from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from maskloop.cli import build
from maskloop.cli.bench_click import REPORTED, SUBJECTS
from maskloop.cli.click_ways import Way, spread
from maskloop.segment.prompt import Image
from tests.segment.checkpoints import save_checkpoint, save_model

torch = pytest.importorskip("torch")


def picture() -> Image:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)


def test_everyone_gets_the_same_clicks_inside_the_image() -> None:
    clicks = spread((60, 90), 10)
    assert (clicks[0].x, clicks[0].y, clicks[0].positive) == (45, 30, True)
    assert all(0 < click.x < 90 and 0 < click.y < 60 for click in clicks)
    assert {click.positive for click in clicks} == {True, False}
    assert spread((60, 90), 4) == clicks[:4]


@pytest.mark.parametrize("cached", [True, False])
def test_only_the_way_without_a_cache_encodes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    way = Way(str(save_model(tmp_path, "sam2")), cached, threads=1)
    encoded, features = [], way._segmenter.net.features

    def counted(pixels: object) -> object:
        encoded.append(1)
        return features(pixels)

    monkeypatch.setattr(way._segmenter.net, "features", counted)
    way.open(picture(), "x")
    warm = len(encoded)
    for count in (1, 2, 3, 0):
        assert min(way.click(count)) > 0
    assert len(encoded) - warm == (1 if cached else 4)
    assert way.memory() > 0


@pytest.mark.slow
def test_the_whole_comparison_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKLOOP_DATA_DIR", str(tmp_path / "data"))
    save_checkpoint(tmp_path / "saved", "sam-hq")
    runner = CliRunner()
    pulled = runner.invoke(build(), ["models", "pull", "sam-hq-vit-base", "--from", str(tmp_path / "saved")])
    assert pulled.exit_code == 0, pulled.output
    figures, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    options = ["--images", "1", "--repeat", "1", "--threads", "1", "--sam", "sam-hq-vit-base"]
    result = runner.invoke(build(), ["bench", "click", *options, "--json", str(figures), "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    rows = {(row["subject"], row["click"]) for row in json.loads(figures.read_text())["rows"]}
    assert {(subject, click) for subject in SUBJECTS for click in REPORTED} <= rows
    assert plot.stat().st_size > 1000
