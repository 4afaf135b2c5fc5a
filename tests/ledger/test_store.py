from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import OperationalError

from maskloop.ledger import Ledger, LedgerError, Prediction, Submission
from maskloop.ledger.predictions import LARGEST_RLE
from maskloop.ledger.tables import Base

OPEN = "import sys; from maskloop.ledger import Ledger; Ledger(sys.argv[1]).close()"
SUBMIT = """
import sys
from maskloop.ledger import Ledger, Submission
ledger = Ledger(sys.argv[1])
for k in range(100000):
    ledger.record_submission(Submission(1, k, k, "2026-11-23T10:00:00Z", "a.png"))
    sys.stdout.write(f"{k}\\n")
    sys.stdout.flush()
"""


def test_the_migrations_build_the_tables_that_the_code_uses(ledger: Ledger) -> None:
    found = inspect(ledger.engine)
    for name, table in Base.metadata.tables.items():
        columns = {column["name"]: column["nullable"] for column in found.get_columns(name)}
        assert columns == {c.name: bool(c.nullable) for c in table.columns}, name
        assert {i["name"] for i in found.get_indexes(name)} == {i.name for i in table.indexes}, name


def test_processes_that_start_together_migrate_once(url: str) -> None:
    started = [subprocess.Popen([sys.executable, "-c", OPEN, url], stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate(timeout=60)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors


def test_what_was_acknowledged_survives_a_kill(url: str) -> None:
    Ledger(url).close()
    process = subprocess.Popen([sys.executable, "-c", SUBMIT, url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(60):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    acknowledged = 60 + len(process.stdout.read().split("\n")[:-1])
    process.stdout.close()
    process.wait()
    ledger = Ledger(url)
    assert len(ledger.submissions(1)) >= acknowledged
    ledger.close()


def test_a_connection_that_the_server_dropped_is_replaced(ledger: Ledger) -> None:
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no server")
    ledger.record_project(1, "<View/>")
    with ledger.engine.connect() as other:
        other.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        )
    assert ledger.label_config(1) == "<View/>"


def admit(url: str, database: str, admitted: bool) -> None:
    """Let a Postgres server take connections to a database, or turn them away and end those that there are."""
    import psycopg

    with psycopg.connect(f"{url.rpartition('/')[0]}/postgres", autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS {admitted}'.encode())
        if not admitted:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])


def test_a_database_that_is_away_for_a_moment_is_waited_for(ledger: Ledger, url: str) -> None:
    if ledger.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no server")
    database = url.rpartition("/")[2]
    ledger.record_project(1, "<View/>")
    hasty = Ledger(url, patience=0.0)
    admit(url, database, False)
    with pytest.raises(OperationalError, match="not currently accepting connections"):
        hasty.record_project(1, "<View></View>")
    with pytest.raises(LedgerError, match=r"DATABASE_URL.*not currently accepting connections"):
        Ledger(url)
    back = threading.Timer(0.5, admit, (url, database, True))
    back.start()
    assert ledger.label_config(1) == "<View/>"
    back.join()
    hasty.close()


def test_a_ledger_of_before_keeps_what_it_knows(url: str) -> None:
    ledger = Ledger(url)
    ledger.record_submission(Submission(1, 1, 1, "2026-11-23T10:00:00Z", "a.png"))
    with ledger.engine.connect() as connection, connection.begin():
        connection.execute(text("ALTER TABLE submission DROP COLUMN changed_at"))
        connection.execute(text("DROP TABLE tally"))
        connection.execute(text("ALTER TABLE promotion DROP COLUMN told"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0002'"))
    ledger.close()
    ledger = Ledger(url)
    ledger.mark_trained(5, ledger.known_forms(1).items(), 1)
    assert ledger.new_submissions(1) == 0
    ledger.mark_trained(6, [(1, "2026-11-23T09:00:00.000000Z")], 1)
    assert ledger.submissions(1)[0].training == 5
    ledger.close()


def test_predictions_keep_small_masks_only(ledger: Ledger) -> None:
    small = Prediction(1, 2, "r", "click", 1, "v1", 0.8, "Cell", b"\x01\x02", at=5.0)
    huge = Prediction(1, 2, "r", "click", 2, "v1", 0.9, None, bytes(LARGEST_RLE + 1), at=6.0)
    ledger.record_predictions([small, huge])
    ledger.record_predictions([])
    assert ledger.predictions(1, 2)[0] == small
    last = ledger.last_prediction(1, 2, "r")
    assert last is not None
    assert (last.clicks, last.rle) == (2, None)
    ledger.forget_predictions(before=5.5)
    assert [p.clicks for p in ledger.predictions(1, 2)] == [2]
    assert ledger.last_prediction(1, 3, "r") is None


def test_the_ledger_does_not_load_torch(tmp_path: Path) -> None:
    code = f"import sys, maskloop.learn.versions; {OPEN.removeprefix('import sys; ')}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, f"sqlite:///{tmp_path}/l.db"]).returncode == 0
