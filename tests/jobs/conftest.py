"""A real ledger, and Label Studio's part played behind a socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from maskloop.ledger import Ledger
from tests.jobs.shelf import Shelf, open_shelf


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    yield ledger
    ledger.close()


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with open_shelf() as shelf:
        yield shelf
