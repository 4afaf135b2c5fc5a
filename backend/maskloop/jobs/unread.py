"""Submissions whose image could not be read: they stay new, and are trained again, each time after a longer pause."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskloop.learn.samples import Collected, LeftOut

_REASON = "its image cannot be read"
_FILE = "unread.json"


@dataclass(frozen=True)
class Unread:
    """How many submissions the project's last run could not read, and how many runs in a row left some."""

    count: int = 0
    runs: int = 0
    training: int = 0


def unread(left_out: Sequence[LeftOut]) -> frozenset[int]:
    """The annotations of which nothing was looked at, since their image was not to be had."""
    return frozenset(left.annotation for left in left_out if left.region is None and left.reason.startswith(_REASON))


def without_unread(collected: Collected) -> Collected:
    """The same with ``forms`` naming only those submissions that were really looked at."""
    missing = unread(collected.left_out)
    return dataclasses.replace(collected, forms=tuple(form for form in collected.forms if form[0] not in missing))


def remember(folder: Path, training: int, count: int) -> None:
    """Note in a project's ``learning`` folder what a run left unread; done again for one run it counts once."""
    before = recall(folder)
    runs = before.runs if before.training == training else before.runs + 1
    now = Unread(count, runs if count else 0, training)
    partial = folder / f"{_FILE}.{os.getpid()}.partial"
    partial.write_text(json.dumps(dataclasses.asdict(now)))
    os.replace(partial, folder / _FILE)


def recall(folder: Path) -> Unread:
    """What was remembered last; nothing where nothing was."""
    try:
        found = json.loads((folder / _FILE).read_text())
        return Unread(int(found["count"]), int(found["runs"]), int(found["training"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Unread()
