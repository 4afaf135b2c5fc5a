from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from maskloop.learn import report
from maskloop.learn.gate import Score, judge
from maskloop.learn.samples import LeftOut
from maskloop.segment.prompt import Point


def test_a_report_tells_what_was_used_and_what_was_not(tmp_path: Path) -> None:
    before = [Score(f"i{k}", "o", "Cell", 6.0, 9.0, 0.5, 0.7) for k in range(6)]
    after = [Score(f"i{k}", "o", "Cell", 3.0, 5.0, 0.6, 0.8) for k in range(6)]
    made = report.Report(
        project=1,
        training=4,
        started_from="clicknet-00000000",
        base="clicknet-00000000",
        seed=7,
        seconds=61.0,
        steps=120,
        verdict=judge(after, before, before),
        curve=[(0, 0.0, 0.5, 0.6), (40, 0.9, 0.6, 0.7)],
        used={"train": [("ab" * 32, 11, 3)], "holdout": [("cd" * 32, 12, 2)]},
        left_out=[LeftOut(9, "r", "its mask is empty | odd")],
        submissions=[(9, "2026-11-23T10:00:00.000000Z")],
        proposals={"Cell": {"live": True, "floor": 0.6, "precision": 0.9, "recall": 0.7, "why": "good enough"}},
    )
    pixels = np.full((40, 50, 3), 90, np.uint8)
    truth = np.zeros((40, 50), bool)
    truth[10:20, 10:30] = True
    shown = report.BeforeAfter(pixels, truth, Point(20, 15), truth, ~truth, 1.0, 0.0)
    report.write(tmp_path, "clicknet-00000000-p1-4", made, [shown, shown])
    text = (tmp_path / "report.md").read_text()
    assert "**Passed the gate**" in text
    assert "| noc85 | 6.000 | 3.000 |" in text
    assert "its mask is empty \\| odd" in text
    assert "`" + "ab" * 8 + "`" in text
    assert report.read(tmp_path)["seed"] == 7
    assert report.read(tmp_path / "nowhere") == {}
    for name in ("curve.png", "sheet.png"):
        picture = cv2.imread(str(tmp_path / name))
        assert picture is not None
        assert picture.size > 0


ODD = "a|b\\\n<script> \ud800"


def test_ids_and_labels_cannot_break_a_report(tmp_path: Path) -> None:
    before = [Score(f"i{k}", "o", ODD, 6.0, 9.0, 0.5, 0.7) for k in range(6)]
    made = report.Report(
        1, 4, "base", "base", 7, 61.0, 120, judge(before, before, before), [(0, 0.0, 0.5, 0.6)], {},
        [LeftOut(9, ODD, ODD)], [], {ODD: {"live": True, "floor": 0.6, "precision": 0.9, "recall": 0.7, "why": ODD}},
    )  # fmt: skip
    report.write(tmp_path, "base-p1-4", made, [])
    rows = (tmp_path / "report.md").read_text().splitlines()
    shown = r"a\|b\\ &lt;script> ?"
    assert f"| 9 | {shown} | {shown} |" in rows
    assert f"| {shown} | yes | 0.60 | 0.90 | 0.70 | {shown} |" in rows
    assert any(row.startswith(f"| {shown} | 6.000 | 6.000 |") for row in rows)
    assert report.read(tmp_path)["left_out"][0]["region"] == ODD


@pytest.mark.parametrize("detail", ["", "Traceback: \ud800\n"])
def test_a_training_without_a_version_has_a_report_too(tmp_path: Path, detail: str) -> None:
    outcome = report.Outcome(1, 4, "kept", "2 images | too few", [LeftOut(9, None, ODD)], detail)
    path = report.write_outcome(tmp_path / "reports" / "4", outcome)
    text = path.read_text()
    assert text.startswith("# Training 4 of project 1: kept\n")
    assert "2 images \\| too few" in text
    assert r"| 9 |  | a\|b\\ &lt;script> ? |" in text
    assert ("Traceback: ?" in text) == bool(detail)
    assert report.read(path.parent)["reason"] == "2 images | too few"
