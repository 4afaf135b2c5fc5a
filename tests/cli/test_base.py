from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from maskloop.cli import build
from maskloop.settings import default_models_dir

WEIGHTS = default_models_dir() / "clicknet" / "weights.safetensors"


@pytest.mark.parametrize(
    ("index", "says"),
    [(None, "index.csv"), ("dataset,image\ncoco,a.jpg\n", "lacks mask"), ("dataset,image,mask\n", "has no coco")],
)
def test_a_folder_without_training_data_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: str | None, says: str
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "permissive").mkdir()
    if index is not None:
        (tmp_path / "permissive" / "index.csv").write_text(index)
        (tmp_path / "index.csv").write_text("split,dataset,image,mask,licence\n")
        for name in ("backgrounds", "cutouts"):
            (tmp_path / "permissive" / f"{name}.csv").write_text("image\n")
    arguments = ["--data", str(tmp_path), "--start", str(WEIGHTS), "--output", str(tmp_path / "run")]
    result = CliRunner().invoke(build(), ["train-base", *arguments])
    assert result.exit_code == 2
    assert says in result.output
    assert "docs/model.md" in result.output
    assert not (tmp_path / "run").exists()
