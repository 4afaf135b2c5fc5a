"""Every submission once, in its newest form, however often and in whatever order its events come."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Iterable
from datetime import datetime, timezone

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from maskloop.ledger.facts import Recorded, Region, Submission
from maskloop.ledger.store import Store
from maskloop.ledger.tables import DeletedTaskRow, ProjectRow, SubmissionRow


class Submissions(Store):
    def record_submission(self, submission: Submission) -> Recorded:
        """Remember an annotation as it is now; older forms and known ones change nothing."""
        regions = _pack(submission.regions)
        updated_at = normal_time(submission.updated_at)

        def work(session: Session) -> Recorded:
            row = session.get(SubmissionRow, (submission.project, submission.annotation), with_for_update=True)
            gone = session.get(DeletedTaskRow, (submission.project, submission.task)) is not None
            if gone or (row is not None and row.deleted):
                return Recorded.DELETED
            if row is not None and row.updated_at > updated_at:
                return Recorded.STALE
            if row is not None and row.regions == regions and row.cancelled == submission.cancelled:
                # A star or a touch without a change is no new lesson, so `training` stays.
                row.updated_at, row.ground_truth = updated_at, submission.ground_truth
                row.image = submission.image or row.image
                return Recorded.KNOWN
            fresh = row is None
            if row is None:
                row = SubmissionRow(project=submission.project, annotation=submission.annotation, deleted=False)
                session.add(row)
            row.task, row.updated_at, row.image = submission.task, updated_at, submission.image
            row.cancelled, row.ground_truth = submission.cancelled, submission.ground_truth
            row.completed_by, row.regions = submission.completed_by, regions
            row.training, row.recorded_at = None, time.time()
            return Recorded.NEW if fresh else Recorded.CHANGED

        return self._write(work)

    def delete_annotations(self, project: int, annotations: Iterable[int]) -> None:
        """Annotations are gone. One that was never seen leaves a mark, so that a late event does not bring it back."""
        ids = sorted(set(annotations))

        def work(session: Session) -> None:
            for annotation in ids:
                row = session.get(SubmissionRow, (project, annotation), with_for_update=True)
                if row is None:
                    row = SubmissionRow(
                        project=project, annotation=annotation, task=None, updated_at="", image="", cancelled=False,
                        ground_truth=False, completed_by=None, training=None, recorded_at=time.time(),
                    )  # fmt: skip
                    session.add(row)
                row.deleted, row.regions = True, b""

        self._write(work)

    def delete_tasks(self, project: int, tasks: Iterable[int]) -> None:
        """Tasks are gone, and with them their annotations (Label Studio sends no event for those)."""
        ids = sorted(set(tasks))

        def work(session: Session) -> None:
            for task in ids:
                if session.get(DeletedTaskRow, (project, task)) is None:
                    session.add(DeletedTaskRow(project=project, task=task))
            gone = update(SubmissionRow).where(SubmissionRow.project == project, SubmissionRow.task.in_(ids))
            session.execute(gone.values(deleted=True, regions=b""))

        self._write(work)

    def submissions(self, project: int) -> list[Submission]:
        """What stands submitted in a project, in the order of the annotation ids; skips are included."""
        query = select(SubmissionRow).filter_by(project=project, deleted=False).order_by(SubmissionRow.annotation)
        return self._read(lambda session: [_submission(row) for row in session.scalars(query)])

    def submission(self, project: int, annotation: int) -> Submission | None:
        """One annotation as it stands, None if it is unknown or deleted."""

        def work(session: Session) -> Submission | None:
            row = session.get(SubmissionRow, (project, annotation))
            return None if row is None or row.deleted else _submission(row)

        return self._read(work)

    def known_forms(self, project: int) -> dict[int, str]:
        """Annotation id to the ``updated_at`` of the form that is recorded: what a poll need not fetch again."""
        query = select(SubmissionRow.annotation, SubmissionRow.updated_at).filter_by(project=project, deleted=False)
        return self._read(lambda session: {row.annotation: row.updated_at for row in session.execute(query)})

    def known_tasks(self, project: int) -> frozenset[int]:
        """The tasks that something stands submitted for."""
        query = select(SubmissionRow.task).filter_by(project=project, deleted=False).distinct()
        return self._read(lambda session: frozenset(task for task in session.scalars(query) if task is not None))

    def new_submissions(self, project: int) -> int:
        """How many submissions (skips left out) no training has looked at yet."""
        query = select(func.count()).select_from(SubmissionRow)
        query = query.filter_by(project=project, deleted=False, cancelled=False, training=None)
        return self._read(lambda session: int(session.scalar(query) or 0))

    def mark_trained(self, training: int, forms: Iterable[tuple[int, str]], project: int) -> None:
        """A training has looked at these forms (annotation, updated_at); a form changed since then stays new."""
        pairs = list(forms)

        def work(session: Session) -> None:
            for annotation, updated_at in pairs:
                seen = update(SubmissionRow).filter_by(project=project, annotation=annotation)
                session.execute(seen.where(SubmissionRow.updated_at == updated_at).values(training=training))

        self._write(work)

    def record_project(self, project: int, label_config: str) -> None:
        """Remember a project's labeling config as it is now."""

        def work(session: Session) -> None:
            row = session.get(ProjectRow, project)
            if row is None:
                session.add(ProjectRow(id=project, label_config=label_config, polled_until="", polled_at=0.0))
            elif row.label_config != label_config:
                row.label_config = label_config

        self._write(work)

    def label_config(self, project: int) -> str | None:
        """The labeling config last seen, None for an unknown project."""

        def work(session: Session) -> str | None:
            row = session.get(ProjectRow, project)
            return None if row is None else row.label_config

        return self._read(work)

    def projects(self) -> list[int]:
        """Every project ever seen."""
        query = select(ProjectRow.id).union(select(SubmissionRow.project)).order_by("id")
        return self._read(lambda session: [int(project) for project in session.scalars(query)])

    def polled(self, project: int) -> tuple[str, float]:
        """Until which ``updated_at`` Label Studio was asked for lost events ("" = never), and when."""

        def work(session: Session) -> tuple[str, float]:
            row = session.get(ProjectRow, project)
            return ("", 0.0) if row is None else (row.polled_until, row.polled_at)

        return self._read(work)

    def record_poll(self, project: int, until: str) -> None:
        """Label Studio was asked for everything up to ``until``."""

        def work(session: Session) -> None:
            row = session.get(ProjectRow, project)
            if row is None:
                row = ProjectRow(id=project, label_config="")
                session.add(row)
            row.polled_until, row.polled_at = until, time.time()

        self._write(work)


def normal_time(text: str) -> str:
    """An ISO time as UTC with microseconds, so that text order is time order; "" stays "".

    Raises ValueError for anything else.
    """
    if not text:
        return ""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _pack(regions: tuple[Region, ...]) -> bytes:
    plain = [
        [
            r.id,
            r.kind,
            r.label,
            r.width,
            r.height,
            None if r.rle is None else base64.b64encode(r.rle).decode(),
            r.points,
        ]
        for r in regions
    ]
    return zlib.compress(json.dumps(plain, separators=(",", ":")).encode(), 6)


def _unpack(packed: bytes) -> tuple[Region, ...]:
    return tuple(
        Region(
            id=str(region),
            kind=str(kind),
            label=label,
            width=int(width),
            height=int(height),
            rle=None if rle is None else base64.b64decode(rle),
            points=None if points is None else tuple((float(x), float(y)) for x, y in points),
        )
        for region, kind, label, width, height, rle, points in json.loads(zlib.decompress(packed))
    )


def _submission(row: SubmissionRow) -> Submission:
    return Submission(
        project=row.project,
        task=row.task or 0,
        annotation=row.annotation,
        updated_at=row.updated_at,
        image=row.image,
        regions=_unpack(row.regions),
        cancelled=row.cancelled,
        ground_truth=row.ground_truth,
        completed_by=row.completed_by,
        training=row.training,
    )
