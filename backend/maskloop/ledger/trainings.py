"""Trainings and promotions: many requests make one run, one run per project, none is lost."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session, aliased

from maskloop.ledger.facts import BY_HAND, Promotion, Signal, Training, TrainingState
from maskloop.ledger.projects import known_project
from maskloop.ledger.store import Store
from maskloop.ledger.tables import PromotionRow, SplitRow, TrainingRow

LEASE_SECONDS = 60.0
"""A running training that has not reported for so long is taken up again by another trainer."""

LAST_ATTEMPT = 3
"""A training that died so often is given up: it may be what kills the trainer."""


class Trainings(Store):
    def request_training(self, project: int, trigger: str, not_before: float = 0.0) -> Training:
        """Ask for a training; while one waits, this is that one. It starts at the earliest wish, and is called by that.

        One BY_HAND stays one, whoever else asks, and becomes one when it waits already.
        """

        def work(session: Session) -> Training:
            known_project(session, project)
            row = session.scalars(select(TrainingRow).filter_by(project=project, state="waiting")).first()
            if row is None:
                row = TrainingRow(
                    project=project, state="waiting", trigger=trigger, requested_at=time.time(), not_before=not_before,
                    attempt=0, progress=0.0, note="", cancel=False,
                )  # fmt: skip
                session.add(row)
            elif not_before < row.not_before or trigger == BY_HAND:
                row.not_before = min(row.not_before, not_before)
                row.trigger = row.trigger if row.trigger == BY_HAND else trigger
            session.flush()
            return _training(row)

        return self._write(work)

    def claim_training(self, owner: str, project: int | None = None) -> Training | None:
        """Take up the next training that may start, or one whose trainer died; None if there is none."""
        now = time.time()

        def work(session: Session) -> Training | None:
            other = aliased(TrainingRow)
            busy = select(other.id).where(other.project == TrainingRow.project, other.state == "running").exists()
            ready = (TrainingRow.state == "waiting") & (TrainingRow.not_before <= now) & ~busy
            orphan = (TrainingRow.state == "running") & (TrainingRow.heartbeat < now - LEASE_SECONDS)
            query = select(TrainingRow).where(or_(ready, orphan)).order_by(TrainingRow.id).limit(1)
            query = query.with_for_update(skip_locked=True)
            if project is not None:
                query = query.where(TrainingRow.project == project)
            row = session.scalars(query).first()
            if row is None:
                return None
            if row.attempt >= LAST_ATTEMPT:
                row.state, row.finished_at = TrainingState.FAILED.value, now
                row.note = f"given up: its trainer died {LAST_ATTEMPT} times"
                return None
            row.state, row.owner, row.attempt = TrainingState.RUNNING.value, owner, row.attempt + 1
            row.started_at = row.started_at or now
            row.heartbeat = now
            session.flush()
            return _training(row)

        return self._write(work)

    def report_progress(self, training: int, owner: str, progress: float, note: str) -> Signal:
        """Say that a training is alive; the answer says whether to go on."""

        def work(session: Session) -> Signal:
            row = session.get(TrainingRow, training)
            if row is None or row.owner != owner or row.state != TrainingState.RUNNING.value:
                return Signal.LOST
            row.heartbeat, row.progress, row.note = time.time(), progress, note
            return Signal.CANCEL if row.cancel else Signal.GO_ON

        return self._write(work)

    def finish_training(
        self, training: int, owner: str, state: TrainingState, note: str, version: str | None = None
    ) -> bool:
        """Close a training; False if it was taken away from ``owner`` meanwhile."""

        def work(session: Session) -> bool:
            row = session.get(TrainingRow, training, with_for_update=True)
            if row is None or row.owner != owner or row.state != TrainingState.RUNNING.value:
                return False
            row.state, row.note, row.version = state.value, note, version
            row.finished_at, row.progress = time.time(), 1.0
            return True

        return self._write(work)

    def release_training(self, training: int, owner: str, died: bool) -> None:
        """Give a running training back, to be taken up again at once; ``died`` counts the attempt against it."""

        def work(session: Session) -> None:
            row = session.get(TrainingRow, training, with_for_update=True)
            if row is None or row.owner != owner or row.state != TrainingState.RUNNING.value:
                return
            row.heartbeat = 0.0
            if not died:
                row.attempt -= 1

        self._write(work)

    def cancel_training(self, project: int) -> int:
        """Drop what waits and tell what runs to stop; how many trainings that concerns."""

        def work(session: Session) -> int:
            waiting = update(TrainingRow).filter_by(project=project, state="waiting")
            dropped = waiting.values(state="cancelled", finished_at=time.time(), note="cancelled before it began")
            running = update(TrainingRow).filter_by(project=project, state="running").values(cancel=True)
            return sum(int(getattr(session.execute(change), "rowcount", 0)) for change in (dropped, running))

        return self._write(work)

    def training(self, training: int) -> Training | None:
        """One training by its id."""

        def work(session: Session) -> Training | None:
            row = session.get(TrainingRow, training)
            return None if row is None else _training(row)

        return self._read(work)

    def trainings(self, project: int | None = None, limit: int = 50) -> list[Training]:
        """Trainings, newest first."""
        query = select(TrainingRow).order_by(TrainingRow.id.desc()).limit(limit)
        if project is not None:
            query = query.filter_by(project=project)
        return self._read(lambda session: [_training(row) for row in session.scalars(query)])

    def is_training(self, project: int) -> bool:
        """Whether a training of a project runs."""
        query = select(TrainingRow.id).filter_by(project=project, state="running").limit(1)
        return self._read(lambda session: session.scalar(query) is not None)

    def last_training_at(self, project: int) -> float:
        """When the last run of a project ended or, before it began, was cancelled; 0.0 if none has."""
        query = select(TrainingRow.finished_at).filter_by(project=project).where(TrainingRow.finished_at.is_not(None))
        query = query.order_by(TrainingRow.finished_at.desc()).limit(1)
        return self._read(lambda session: float(session.scalar(query) or 0.0))

    def parts(self, project: int) -> dict[str, str]:
        """Content hash of an image to the part of the data it belongs to."""
        query = select(SplitRow).filter_by(project=project)
        return self._read(lambda session: {row.content: row.part for row in session.scalars(query)})

    def record_parts(self, project: int, parts: Mapping[str, str]) -> None:
        """Fix the part of images that have none yet; what is fixed stays."""

        def work(session: Session) -> None:
            for content, part in sorted(parts.items()):
                if session.get(SplitRow, (project, content)) is None:
                    session.add(SplitRow(project=project, content=content, part=part))

        self._write(work)

    def record_promotion(self, project: int, version: str, previous: str, by: str, told: bool = True) -> None:
        """Remember that a version became current, and whether Label Studio was told."""
        row = {"project": project, "version": version, "previous": previous, "by": by, "at": time.time(), "told": told}
        self._write(lambda session: session.add(PromotionRow(**row)))

    def promotions(self, project: int) -> list[Promotion]:
        """What was current when, newest first."""
        query = select(PromotionRow).filter_by(project=project).order_by(PromotionRow.id.desc())
        return self._read(lambda session: [_promotion(row) for row in session.scalars(query)])

    def untold(self) -> list[Promotion]:
        """The newest promotion of each project where Label Studio does not know of it."""
        newest = select(func.max(PromotionRow.id)).group_by(PromotionRow.project)
        query = select(PromotionRow).where(PromotionRow.id.in_(newest), ~PromotionRow.told)
        return self._read(lambda session: [_promotion(row) for row in session.scalars(query)])

    def record_told(self, promotion: Promotion, told: bool) -> None:
        """Remember whether Label Studio knows of it now."""
        row = update(PromotionRow).filter_by(project=promotion.project, version=promotion.version, at=promotion.at)
        self._write(lambda session: session.execute(row.values(told=told)))


def _promotion(row: PromotionRow) -> Promotion:
    return Promotion(row.project, row.version, row.previous, row.by, row.at, row.told)


def _training(row: TrainingRow) -> Training:
    return Training(
        id=row.id,
        project=row.project,
        state=TrainingState(row.state),
        trigger=row.trigger,
        requested_at=row.requested_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        heartbeat=row.heartbeat,
        owner=row.owner,
        attempt=row.attempt,
        progress=row.progress,
        note=row.note,
        version=row.version,
        cancel=row.cancel,
    )
