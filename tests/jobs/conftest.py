"""A real ledger, and Label Studio's part played behind a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maskloop.jobs.batches import Batches
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.ledger import Ledger
from maskloop.queue.local import LocalQueue
from tests.jobs.shelf import Shelf, open_shelf
from tests.jobs.work import Start, Work


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    yield ledger
    ledger.close()


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with open_shelf() as shelf:
        yield shelf


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def start(work: Work, ledger: Ledger) -> Iterator[Start]:
    queue = LocalQueue({"preannotate": work})
    started: list[Batches] = []

    def start(deadline: float = 20.0, client: LabelStudioClient | None = None, **more: Any) -> Batches:
        started.append(Batches(queue, ledger, client, deadline, **more))
        return started[-1]

    yield start
    work.open.set()
    work.go_on.set()
    for batches in started:
        batches.close()
    queue.close()
