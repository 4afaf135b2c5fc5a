"""The ledger on both databases: SQLite in a file, and a Postgres server of our own where its programs exist."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskloop.ledger import Ledger


def _postgres_programs() -> Path | None:
    for folder in [
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        Path(shutil.which("initdb") or "/-").parent,
    ]:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a fresh Postgres server."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra [postgres])")
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("no Postgres server (initdb, postgres) on this machine")
    # Postgres refuses to run as root; Debian's package brings the user postgres.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    # Not in pytest's folder: that is closed to the user postgres.
    data = Path(tempfile.mkdtemp(prefix="maskloop-postgres-"))
    if as_user:
        shutil.chown(data, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = subprocess.run(
        [*as_user, programs / "initdb", "-D", data / "db", "-U", "maskloop", "-A", "trust", "--no-sync"],
        capture_output=True, text=True,
    )  # fmt: skip
    if made.returncode:
        shutil.rmtree(data)
        pytest.skip(f"initdb does not run here: {made.stderr.strip()[-300:]}")
    server = subprocess.Popen(
        [*as_user, programs / "postgres", "-D", data / "db", "-p", str(port), "-k", data, "-h", "127.0.0.1", "-F"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        import psycopg

        for _ in range(200):
            try:
                psycopg.connect(f"host=127.0.0.1 port={port} user=maskloop dbname=postgres").close()
                break
            except psycopg.OperationalError:
                subprocess.run(["sleep", "0.1"], check=True)
        yield f"postgresql://maskloop@127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(data)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'deep' / 'ledger.sqlite3'}"
    import psycopg

    server: str = request.getfixturevalue("postgres")
    name = f"t{abs(hash(str(tmp_path)))}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return f"{server}/{name}"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = Ledger(url)
    yield ledger
    ledger.close()
