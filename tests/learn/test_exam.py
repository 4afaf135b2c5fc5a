from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from maskloop.learn import exam

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
