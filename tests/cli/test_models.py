from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from maskloop.cli import build
from maskloop.segment.card import Card, write_card
from maskloop.settings import default_models_dir
from tests.segment.checkpoints import save_checkpoint


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("MASKLOOP_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner()


def test_the_list_says_what_is_ready_and_what_is_to_pull(runner: CliRunner) -> None:
    result = runner.invoke(build(), ["models"])
    assert result.exit_code == 0, result.output
    lines = {line.split()[0]: line for line in result.output.splitlines() if line.strip()}
    for folder in default_models_dir().iterdir():
        if (folder / "model.toml").is_file():
            assert folder.name in lines
    assert "ready" in lines["watershed"]
    assert "to pull" in lines["sam2.1-hiera-small"]


def test_a_broken_card_does_not_hide_the_others(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKLOOP_MODELS_DIR", str(tmp_path / "models"))
    write_card(tmp_path / "models" / "good", Card("good", "watershed", "MIT", "fine"))
    (tmp_path / "models" / "bad").mkdir()
    (tmp_path / "models" / "bad" / "model.toml").write_text("name = ")
    result = runner.invoke(build(), ["models"])
    assert result.exit_code == 0
    assert "broken" in result.output
    assert "good" in result.output


def test_a_pulled_model_serves_by_its_name_alone(
    runner: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(tmp_path / "saved", "sam-hq")
    result = runner.invoke(build(), ["models", "pull", "sam-hq-vit-base", "--from", str(tmp_path / "saved")])
    assert result.exit_code == 0, result.output
    assert "recorded on first download" in result.output
    assert "ready" in next(
        line for line in runner.invoke(build(), ["models"]).output.splitlines() if "hq-vit-base" in line
    )
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(picture)
    monkeypatch.setenv("MASKLOOP_MODEL", "sam-hq-vit-base")
    mask = tmp_path / "mask.png"
    result = runner.invoke(build(), ["predict", str(picture), "--point", "40,30", "-o", str(mask)])
    assert result.exit_code == 0, result.output
    with Image.open(mask) as answer:
        assert answer.size == (80, 60)


def test_other_weights_than_the_cards_are_refused(runner: CliRunner, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "saved", "sam2_video")
    result = runner.invoke(build(), ["models", "pull", "sam2.1-hiera-small", "--from", str(tmp_path / "saved")])
    assert result.exit_code == 2
    assert "not what was promised" in result.output
    listed = runner.invoke(build(), ["models"]).output.splitlines()
    assert "to pull" in next(line for line in listed if "hiera-small" in line)


def test_what_cannot_be_pulled_is_said_without_a_traceback(runner: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "data" / "models" / "broken").mkdir(parents=True)
    (tmp_path / "data" / "models" / "broken" / "model.toml").write_text("name = ")
    for arguments in (["nonsense"], ["watershed"], ["sam-vit-base", "--from", str(tmp_path)], ["broken"]):
        result = runner.invoke(build(), ["models", "pull", *arguments])
        assert result.exit_code == 2
        assert isinstance(result.exception, SystemExit)
