"""A database that does not work, as those see it who ask."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from maskloop.ledger import store
from maskloop.web.services import Services


def test_a_locked_database_is_said_with_when_to_try_again(
    serve: Callable[..., tuple[FlaskClient, Services]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, services = serve()
    monkeypatch.setattr(store, "LOCKED_SECONDS", 0)
    monkeypatch.setattr(store, "_ATTEMPTS", 1)
    services.ledger.engine.dispose()
    services.ledger.record_project(1, "<View/>")
    with sqlite3.connect(str(services.ledger.engine.url.database)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = client.post("/train", json={"project": 1})
        other.rollback()
    other.close()
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "MASKLOOP_DATA_DIR" in answer.text
    assert "database is locked" in answer.text
    assert client.post("/train", json={"project": 1}).status_code == 200
