from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..server import Server, reply, serving
from .door import PNG


@pytest.fixture
def studio() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def victim() -> Iterator[Server]:
    """A service on this machine that must never be asked."""
    with serving() as server:
        server.routes["/secret.png"] = reply(PNG)
        yield server
        assert server.seen == []
