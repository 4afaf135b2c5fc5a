from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from maskloop.cli import bench_rle, build


def test_prints_a_table_of_every_mask_and_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench_rle, "SIDES", {"tiny": 48})
    own = np.zeros((20, 30), np.uint8)
    own[5:15, 5:25] = 255
    cv2.imwrite(str(tmp_path / "own.png"), own)
    for arguments in ([], ["--mask", str(tmp_path / "own.png")]):
        result = CliRunner().invoke(build(), ["bench", "rle", "--repeat", "1", *arguments])
        assert result.exit_code == 0, result.output
        assert result.output.count("tiny") == 3


def test_says_so_when_the_mask_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("no image")
    result = CliRunner().invoke(build(), ["bench", "rle", "--repeat", "1", "--mask", str(tmp_path / "no.png")])
    assert result.exit_code != 0
    assert "--mask" in result.output
