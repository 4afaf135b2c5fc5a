"""Batches: many tasks to predict in the background, each done at least once and pushed once."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, delete, func, or_, select, union_all, update
from sqlalchemy.orm import Session

from maskloop.ledger.facts import BatchItem, BatchProgress
from maskloop.ledger.store import Store, insert
from maskloop.ledger.tables import BatchItemRow, BatchRow, TallyRow

CLAIMED = ("running", "answered")
"""States of an item that somebody holds: it is being done, or went into an answer that is not seen stored yet."""
OPEN = ("waiting", *CLAIMED)


class Batches(Store):
    def create_batch(self, project: int, version: str, items: Iterable[tuple[int, str, str]]) -> str:
        """Queue tasks for a version: ``items`` are (task, prompt digest, payload as JSON text).

        A task that is under way for this version and prompt stays with its older batch and counts there only; if
        all are, there is no new batch. One that was done or failed before is done again, because somebody asked
        again, and counts in both. The id of the new batch.
        """
        batch, wanted = uuid.uuid4().hex[:12], {(task, prompt): payload for task, prompt, payload in items}

        def work(session: Session) -> str:
            known = [row for row in _rows(session, project, version, {t for t, _ in wanted}) if row[1:3] in wanted]
            ended = [id for id, _, _, state in known if state not in OPEN]
            # These step aside, but are still their batch's.
            aside = {"prompt": BatchItemRow.prompt.concat(" in ").concat(BatchItemRow.batch)}
            for some in _by_hundreds(ended):
                session.execute(update(BatchItemRow).where(BatchItemRow.id.in_(some)).values(aside))
            under_way = {(task, prompt) for _, task, prompt, state in known if state in OPEN}
            common = {
                "batch": batch,
                "project": project,
                "version": version,
                "state": "waiting",
                "attempt": 0,
                "error": "",
            }
            new = [
                {**common, "task": key[0], "prompt": key[1], "payload": payload}
                for key, payload in wanted.items()
                if key not in under_way
            ]
            if new:
                session.add(BatchRow(id=batch, project=project, version=version, created_at=time.time()))
                session.execute(insert(session, BatchItemRow), new)
            return batch

        return self._write(work)

    def claim_item(
        self, owner: str, lease_seconds: float = 60.0, batches: Collection[str] | None = None
    ) -> BatchItem | None:
        """Take the oldest open item, or one whose worker's lease ran out; None if there is none."""
        found = self.claim_items(owner, 1, lease_seconds, batches)
        return found[0] if found else None

    def claim_items(
        self, owner: str, most: int, lease_seconds: float = 60.0, batches: Collection[str] | None = None
    ) -> list[BatchItem]:
        """Take up to ``most`` open items at once, of these ``batches`` (None: of all)."""
        now = time.time()
        query = select(BatchItemRow).where(_free(now))
        query = query.order_by(BatchItemRow.id).limit(most).with_for_update(skip_locked=True)
        if batches is not None:
            query = query.where(BatchItemRow.batch.in_(batches))

        def work(session: Session) -> list[BatchItem]:
            items = []
            for row in session.scalars(query):
                answered = row.state == "answered"
                row.state, row.owner, row.lease_until = "running", owner, now + lease_seconds
                row.attempt += 1
                items.append(replace(_item(row), answered=answered))
            return items

        return self._write(work)

    def finish_item(self, item: int, owner: str) -> bool:
        """An item is done; False if another worker took it meanwhile (then that one's answer counts)."""
        return bool(self.finish_items([item], owner))

    def fail_item(self, item: int, owner: str, error: str, retry: bool = False, after: float = 0.0) -> bool:
        """An item failed, for good or (``retry``) to be taken again, at the earliest ``after`` so many seconds."""
        if retry:
            values = {"state": "waiting", "lease_until": time.time() + after if after else None}
        else:
            values = {"state": "failed", "payload": "", "lease_until": None}
        return bool(self._change([item], owner, error=error, owner=None, **values))

    def forget_batches(self, before: float) -> None:
        """Forget the batches made before a time (epoch seconds), but not what is still to be done, nor the sums."""
        old = select(BatchRow.id).where(BatchRow.created_at < before)
        ended = delete(BatchItemRow).where(BatchItemRow.batch.in_(old), BatchItemRow.state.not_in(OPEN))
        empty = delete(BatchRow).where(BatchRow.created_at < before, BatchRow.id.not_in(select(BatchItemRow.batch)))

        def work(session: Session) -> None:
            states = session.scalars(ended.returning(BatchItemRow.state).execution_options(synchronize_session=False))
            for state, count in Counter(states).items():
                tally = insert(session, TallyRow).values(state=state, count=count)
                more = {"count": TallyRow.count + count}
                session.execute(tally.on_conflict_do_update(index_elements=["state"], set_=more))
            session.execute(empty.execution_options(synchronize_session=False))

        self._write(work)

    def extend_items(self, items: Sequence[int], owner: str, lease_seconds: float = 60.0) -> set[int]:
        """Keep claimed items a while longer; those that are still the owner's."""
        return self._change(items, owner, lease_until=time.time() + lease_seconds)

    def answer_items(self, items: Sequence[int], owner: str, lease_seconds: float = 60.0) -> set[int]:
        """Claimed items go into an answer and stay claimed until they are seen stored; those still the owner's."""
        return self._change(items, owner, state="answered", lease_until=time.time() + lease_seconds)

    def finish_items(self, items: Sequence[int], owner: str) -> set[int]:
        """Claimed items are done, all at once; those that were still the owner's."""
        return self._change(items, owner, state="done", payload="", error="", owner=None, lease_until=None)

    def _change(self, items: Sequence[int], holder: str, **values: Any) -> set[int]:
        """Change those of some items that ``holder`` still holds; their ids."""
        change = update(BatchItemRow).where(BatchItemRow.owner == holder, BatchItemRow.state.in_(CLAIMED))
        change = change.where(BatchItemRow.id.in_(items)).values(**values)
        query = change.returning(BatchItemRow.id).execution_options(synchronize_session=False)
        return self._write(lambda session: set(session.scalars(query)))

    def give_up(self, why: str, batch: str | None = None, created_before: float | None = None) -> int:
        """Fail what nobody holds of a batch, or of all that are older than a time (epoch seconds); how many items."""
        change = update(BatchItemRow).where(_free(time.time()))
        if batch is not None:
            change = change.where(BatchItemRow.batch == batch)
        if created_before is not None:
            old = select(BatchRow.id).where(BatchRow.created_at < created_before)
            change = change.where(BatchItemRow.batch.in_(old))
        change = change.values(state="failed", payload="", error=why, owner=None, lease_until=None)
        query = change.returning(BatchItemRow.id).execution_options(synchronize_session=False)
        return self._write(lambda session: len(session.scalars(query).all()))

    def tasks_by_state(self) -> dict[str, int]:
        """How many tasks of all batches there ever were are waiting, running, done and failed."""
        remembered = select(BatchItemRow.state, func.count()).group_by(BatchItemRow.state)
        query = union_all(remembered, select(TallyRow.state, TallyRow.count))
        counts: Counter[str] = Counter()
        for state, count in self._read(lambda session: session.execute(query).all()):
            counts["running" if state == "answered" else state] += count
        return {state: counts[state] for state in ("waiting", "running", "done", "failed")}

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
            unfinished = select(BatchItemRow.batch).where(BatchItemRow.state.in_(OPEN))
            query = query.where(BatchRow.id.in_(unfinished))

        def work(session: Session) -> list[BatchProgress]:
            rows = list(session.scalars(query))
            counts = _counts(session, [row.id for row in rows])
            return [_progress(row, counts[row.id]) for row in rows]

        return self._read(work)


def _by_hundreds(keys: Iterable[int]) -> Iterator[list[int]]:
    """A database takes so many values in one statement."""
    waiting = iter(keys)
    while some := list(islice(waiting, 500)):
        yield some


def _rows(session: Session, project: int, version: str, tasks: Iterable[int]) -> Iterator[tuple[int, int, str, str]]:
    """(id, task, prompt, state) of what there is of some tasks for a version, kept from changing."""
    columns = select(BatchItemRow.id, BatchItemRow.task, BatchItemRow.prompt, BatchItemRow.state)
    query = columns.filter_by(project=project, version=version).with_for_update()
    for some in _by_hundreds(sorted(tasks)):
        for row in session.execute(query.where(BatchItemRow.task.in_(some))):
            yield row.id, row.task, row.prompt, row.state


def _free(now: float) -> ColumnElement[bool]:
    """Nobody holds it: it waits and its time has come, or whoever held it has been silent for too long."""
    come = or_(BatchItemRow.lease_until.is_(None), BatchItemRow.lease_until <= now)
    waiting = (BatchItemRow.state == "waiting") & come
    return or_(waiting, BatchItemRow.state.in_(CLAIMED) & (BatchItemRow.lease_until < now))


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
        running=sum(counts.get(state, 0) for state in CLAIMED),
        done=counts.get("done", 0),
        failed=counts.get("failed", 0),
    )
