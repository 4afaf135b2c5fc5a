from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskloop.learn import exam
from maskloop.learn.samples import Sample, Target
from maskloop.segment.prompt import Prompt
from maskloop.segment.segmenter import Embedding, Prediction

WRITE = """
import sys
from pathlib import Path
from maskloop.learn import exam
for round in range(400):
    exam._write(Path(sys.argv[1]), {str(k): {"noc85": 1.0} for k in range(60)})
"""


def test_a_comparison_and_a_training_may_remember_exams_at_once(tmp_path: Path) -> None:
    known = tmp_path / "exams.json"
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(known)]) for _ in range(2)]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    assert len(exam._read(known)) == 60
    assert list(tmp_path.iterdir()) == [known]


def test_what_could_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "exams.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        exam._write(tmp_path / "exams.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["exams.json"]


class Exact:
    """Knows the object, but answers only a click into its very centre."""

    name = encoder = "exact"

    def __init__(self, truth: np.ndarray) -> None:
        self.truth = truth

    def encode(self, image: np.ndarray) -> Embedding:
        return Embedding({}, image.shape[:2], self.encoder)

    def decode(self, embedding: Embedding, prompt: Prompt) -> Prediction:
        assert prompt.label == "Square"
        centre = any((point.x, point.y) == (20.5, 20.5) for point in prompt.points)
        return Prediction(self.truth & centre, 0.9)


def test_a_careful_and_a_careless_annotator_click_each_object(tmp_path: Path) -> None:
    truth = np.zeros((41, 41), bool)
    truth[10:31, 10:31] = True
    target = Target(1, "r", "Square", (41, 41), np.packbits(truth).tobytes())
    sample = Sample("c", 1, "x", np.zeros((41, 41, 3), np.uint8), (target,))
    known = tmp_path / "exams.json"
    exact = Exact(truth)
    seen = exact.encode(sample.pixels)
    scores = [exam.take(exact, "w", [(sample, target)], lambda _: seen, known, lambda _: None) for _ in range(2)]
    (score,) = scores[0]
    assert score.noc85 == (1 + exam.MOST_CLICKS) / 2
    assert score.iou1 == pytest.approx(0.5, abs=0.01)  # the click itself is honoured
    assert scores[1] == scores[0]
