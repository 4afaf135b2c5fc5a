"""Batches: many tasks to predict in the background, each done at least once and pushed once."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from maskloop.ledger.facts import BatchItem, BatchProgress
from maskloop.ledger.store import Store
from maskloop.ledger.tables import BatchItemRow, BatchRow


class Batches(Store):
    def create_batch(self, project: int, version: str, items: Iterable[tuple[int, str, str]]) -> str:
        """Queue tasks for a version: ``items`` are (task, prompt digest, payload as JSON text).

        A task that already waits or runs for this version and prompt stays with its older batch; one that
        was done or failed before is done again, because somebody asked again. The id of the new batch.
        """
        batch, wanted = uuid.uuid4().hex[:12], list(items)

        def work(session: Session) -> str:
            session.add(BatchRow(id=batch, project=project, version=version, created_at=time.time()))
            query = select(BatchItemRow).filter_by(project=project, version=version).with_for_update()
            known = {(row.task, row.prompt): row for row in session.scalars(query)}
            for task, prompt, payload in wanted:
                row = known.get((task, prompt))
                if row is None:
                    row = BatchItemRow(project=project, task=task, version=version, prompt=prompt)
                    known[task, prompt] = row
                    session.add(row)
                elif row.state in ("waiting", "running"):
                    continue
                row.batch, row.payload, row.state = batch, payload, "waiting"
                row.owner, row.lease_until, row.attempt, row.error = None, None, 0, ""
            return batch

        return self._write(work)

    def claim_item(self, owner: str, lease_seconds: float = 60.0, batch: str | None = None) -> BatchItem | None:
        """Take the oldest open item, or one whose worker's lease ran out; None if there is none."""
        found = self.claim_items(owner, 1, lease_seconds, batch)
        return found[0] if found else None

    def claim_items(
        self, owner: str, most: int, lease_seconds: float = 60.0, batch: str | None = None
    ) -> list[BatchItem]:
        """Take up to ``most`` open items at once."""
        now = time.time()
        orphan = (BatchItemRow.state == "running") & (BatchItemRow.lease_until < now)
        query = select(BatchItemRow).where(or_(BatchItemRow.state == "waiting", orphan))
        query = query.order_by(BatchItemRow.id).limit(most).with_for_update(skip_locked=True)
        if batch is not None:
            query = query.where(BatchItemRow.batch == batch)

        def work(session: Session) -> list[BatchItem]:
            rows = list(session.scalars(query))
            for row in rows:
                row.state, row.owner, row.lease_until = "running", owner, now + lease_seconds
                row.attempt += 1
            session.flush()
            return [_item(row) for row in rows]

        return self._write(work)

    def finish_item(self, item: int, owner: str) -> bool:
        """An item is done; False if another worker took it meanwhile (then that one's answer counts)."""
        return self._close_item(item, owner, state="done", error="")

    def fail_item(self, item: int, owner: str, error: str, retry: bool = False) -> bool:
        """An item failed, for good or (``retry``) to be taken again."""
        return self._close_item(item, owner, state="waiting" if retry else "failed", error=error)

    def _close_item(self, item: int, owner: str, state: str, error: str) -> bool:
        change = update(BatchItemRow).filter_by(id=item, owner=owner, state="running")
        change = change.values(state=state, error=error, owner=None, lease_until=None)
        return self._write(lambda session: int(getattr(session.execute(change), "rowcount", 0)) == 1)

    def extend_items(self, items: Sequence[int], owner: str, lease_seconds: float = 60.0) -> None:
        """Keep claimed items a while longer."""
        change = update(BatchItemRow).filter_by(owner=owner, state="running").where(BatchItemRow.id.in_(items))
        self._write(lambda session: session.execute(change.values(lease_until=time.time() + lease_seconds)))

    def finish_items(self, items: Sequence[int], owner: str) -> None:
        """Claimed items are done, all at once."""
        change = update(BatchItemRow).filter_by(owner=owner, state="running").where(BatchItemRow.id.in_(items))
        change = change.values(state="done", error="", owner=None, lease_until=None)
        self._write(lambda session: session.execute(change))

    def progress(self, batch: str) -> BatchProgress | None:
        """How far a batch is, None if there is no such batch."""

        def work(session: Session) -> BatchProgress | None:
            row = session.get(BatchRow, batch)
            return None if row is None else _progress(row, _counts(session, [batch])[batch])

        return self._read(work)

    def batches(self, open_only: bool = False, limit: int = 100) -> list[BatchProgress]:
        """Batches, newest first."""
        query = select(BatchRow).order_by(BatchRow.created_at.desc()).limit(limit)
        if open_only:
            unfinished = select(BatchItemRow.batch).where(BatchItemRow.state.in_(("waiting", "running")))
            query = query.where(BatchRow.id.in_(unfinished))

        def work(session: Session) -> list[BatchProgress]:
            rows = list(session.scalars(query))
            counts = _counts(session, [row.id for row in rows])
            return [_progress(row, counts[row.id]) for row in rows]

        return self._read(work)


def _counts(session: Session, batches: Sequence[str]) -> dict[str, dict[str, int]]:
    """How many items of each batch are in each state."""
    query = select(BatchItemRow.batch, BatchItemRow.state, func.count()).where(BatchItemRow.batch.in_(batches))
    counted: dict[str, dict[str, int]] = {batch: {} for batch in batches}
    for batch, state, count in session.execute(query.group_by(BatchItemRow.batch, BatchItemRow.state)):
        counted[batch][state] = count
    return counted


def _item(row: BatchItemRow) -> BatchItem:
    return BatchItem(row.id, row.batch, row.project, row.task, row.version, row.prompt, row.payload, row.attempt)


def _progress(row: BatchRow, counts: dict[str, int]) -> BatchProgress:
    return BatchProgress(
        batch=row.id,
        project=row.project,
        version=row.version,
        created_at=row.created_at,
        waiting=counts.get("waiting", 0),
        running=counts.get("running", 0),
        done=counts.get("done", 0),
        failed=counts.get("failed", 0),
    )
