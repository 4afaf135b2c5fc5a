from __future__ import annotations

from pathlib import Path

import pytest

from maskloop.jobs.unread import Unread, recall, remember, unread, without_unread
from maskloop.learn.samples import Collected, LeftOut

LEFT = (
    LeftOut(1, None, "its image cannot be read: the host does not answer"),
    LeftOut(2, None, "skipped by the annotator"),
    LeftOut(3, "r", "its mask is empty"),
)


def test_only_what_was_not_to_be_had_stays_new() -> None:
    assert unread(LEFT) == {1}
    collected = without_unread(Collected((), LEFT, ((1, "a"), (2, "b"), (3, "c"))))
    assert collected.forms == ((2, "b"), (3, "c"))
    assert collected.left_out == LEFT


def test_runs_in_a_row_are_counted_each_once(tmp_path: Path) -> None:
    assert recall(tmp_path) == Unread()
    remember(tmp_path, 7, 3)
    remember(tmp_path, 7, 3)  # done again after a crash
    assert recall(tmp_path) == Unread(3, 1, 7)
    remember(tmp_path, 9, 2)
    assert recall(tmp_path) == Unread(2, 2, 9)
    remember(tmp_path, 10, 0)
    assert recall(tmp_path) == Unread(0, 0, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["unread.json"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"count": "x"}'])
def test_a_file_that_is_not_understood_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "unread.json").write_text(text)
    assert recall(tmp_path) == Unread()
