from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from maskloop import __version__
from maskloop.cli import build
from maskloop.learn.versions import Versions
from maskloop.segment.catalog import Catalog
from maskloop.settings import Settings

runner = CliRunner()
REPORT = {
    "verdict": {
        "against_current": [{"metric": "noc85", "first": 3.5, "second": 2.25}],
        "reasons": ["better than the current version"],
    },
    "proposals": {"Cell": {"live": True}, "Debris": {"live": False}},
}


def fill(folder: Path) -> None:
    card = 'name = "a"\nfamily = "watershed"\nlicence = "CC0"\ndescription = "a"\n[files]\n"a.safetensors" = ""\n'
    (folder / "model.toml").write_text(card)
    (folder / "a.safetensors").write_text("weights")
    (folder / "report.json").write_text(json.dumps(REPORT))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASKLOOP_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("MASKLOOP_MODEL", "watershed")
    return tmp_path


def test_before_any_training_there_is_a_sentence_instead_of_an_empty_table(data: Path) -> None:
    assert "No versions yet" in runner.invoke(build(), ["versions"]).output


def test_a_version_is_named_in_full_however_narrow_the_terminal(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = Versions(data / "versions", "watershed-0123abcd").publish(7, "20261125.1", fill)
    output = runner.invoke(build(), ["versions"]).output
    assert f"  {name}\n" in output
    assert "clicks to 85 %: 3.50 -> 2.25" in output
    assert "pre-annotates: Cell\n" in output
    assert "better than the current version" in output
    assert "damaged" not in output


def test_a_version_whose_files_are_damaged_says_so(data: Path) -> None:
    found = Versions(data / "versions", "watershed-0123abcd")
    folder = found.folder(found.publish(7, "20261125.1", fill))
    assert folder is not None
    (folder / "a.safetensors").unlink()
    assert f"damaged, the base answers in its place: model a has no weights: {folder}" in (
        runner.invoke(build(), ["versions"]).output
    )


def test_a_damaged_version_is_not_made_current(data: Path) -> None:
    base = Catalog(Settings().models_dir).version("watershed")
    found = Versions(data / "versions", base)
    name = found.publish(7, "20261125.1", fill)
    folder = found.folder(name)
    assert folder is not None
    found.promote(7, name)
    found.promote(7, base)
    weights = (folder / "a.safetensors").read_bytes()
    (folder / "a.safetensors").unlink()
    refused = runner.invoke(build(), ["promote", name, "--project", "7"])
    assert refused.exit_code == 1
    assert "is damaged" in refused.output
    assert found.current(7) == base
    back = runner.invoke(build(), ["rollback", "--project", "7"])
    assert back.exit_code == 1
    assert "the base answers in its place" in back.output
    (folder / "a.safetensors").write_bytes(weights)
    assert runner.invoke(build(), ["promote", name, "--project", "7"]).exit_code == 0


def test_the_program_says_its_version() -> None:
    assert runner.invoke(build(), ["--version"]).output.strip() == __version__
