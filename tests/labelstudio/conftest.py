from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import Server, reply, serving
from .studio import PNG, UPLOAD


@pytest.fixture
def studio() -> Iterator[Server]:
    """A Label Studio that has one upload."""
    with serving() as server:
        server.routes[UPLOAD] = reply(PNG)
        yield server
