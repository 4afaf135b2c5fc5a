from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

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
    assert "**Promoted**" in text
    assert "| noc85 | 6.000 | 3.000 |" in text
    assert "its mask is empty \\| odd" in text
    assert "`" + "ab" * 8 + "`" in text
    assert report.read(tmp_path)["seed"] == 7
    assert report.read(tmp_path / "nowhere") == {}
    for name in ("curve.png", "sheet.png"):
        assert cv2.imread(str(tmp_path / name)).size > 0
