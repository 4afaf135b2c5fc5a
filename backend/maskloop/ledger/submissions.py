"""Every submission once, in its newest form, however often and in whatever order its events come."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from functools import partial

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from maskloop.ledger.facts import Recorded, Region, Submission
from maskloop.ledger.store import Store, insert
from maskloop.ledger.tables import DeletedTaskRow, SubmissionRow

CHUNK = 500
"""Deletions in one transaction: a webhook that comes meanwhile waits for no more."""


class Submissions(Store):
    def record_submission(self, submission: Submission) -> Recorded:
        """Remember an annotation as it is now; older forms and known ones change nothing.

        An ``updated_at`` that is no time counts as none: older than every other form.
        """
        regions = _pack(submission.regions)
        try:
            updated_at = normal_time(submission.updated_at)
        except (ValueError, OverflowError):
            updated_at = ""

        def work(session: Session) -> Recorded:
            row = session.get(SubmissionRow, (submission.project, submission.annotation), with_for_update=True)
            gone = session.get(DeletedTaskRow, (submission.project, submission.task)) is not None
            if gone or (row is not None and row.deleted):
                return Recorded.DELETED
            if row is not None and row.updated_at > updated_at:
                return Recorded.STALE
            form = (submission.task, regions, submission.cancelled)
            if row is not None and (row.task, row.regions, row.cancelled) == form:
                # A star or a touch without a change is no new lesson, so `training` and `changed_at` stay. Nor is
                # another address of the image: events and the API name one in a storage in two ways.
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
            row.changed_at, row.training, row.recorded_at = updated_at, None, time.time()
            return Recorded.NEW if fresh else Recorded.CHANGED

        return self._write(work)

    def delete_annotations(self, project: int, annotations: Iterable[int]) -> None:
        """Annotations are gone. One that was never seen leaves a mark, so that a late event does not bring it back."""
        blank = {"project": project, "task": None, "updated_at": "", "changed_at": "", "image": "", "cancelled": False,
                 "ground_truth": False, "completed_by": None, "training": None, "recorded_at": time.time(),
                 "deleted": True, "regions": b""}  # fmt: skip
        key = ["project", "annotation"]

        def work(ids: list[int], session: Session) -> None:
            gone = insert(session, SubmissionRow)
            gone = gone.on_conflict_do_update(index_elements=key, set_={"deleted": True, "regions": b""})
            session.execute(gone, [{**blank, "annotation": annotation} for annotation in ids])

        self._write_many(work, annotations)

    def delete_tasks(self, project: int, tasks: Iterable[int]) -> None:
        """Tasks are gone, and with them their annotations (Label Studio sends no event for those)."""

        def work(ids: list[int], session: Session) -> None:
            marks = [{"project": project, "task": task} for task in ids]
            session.execute(insert(session, DeletedTaskRow).on_conflict_do_nothing(), marks)
            gone = update(SubmissionRow).where(SubmissionRow.project == project, SubmissionRow.task.in_(ids))
            session.execute(gone.values(deleted=True, regions=b""))

        self._write_many(work, tasks)

    def _write_many(self, work: Callable[[list[int], Session], None], ids: Iterable[int]) -> None:
        """Run ``work`` on some of the ids after others, each time in a transaction of its own.

        Between two of them it rests for as long as the last one took (0.1 s at most): whoever waits gets a turn.
        """
        ordered = sorted(set(ids))
        for start in range(0, len(ordered), CHUNK):
            began = time.monotonic()
            self._write(partial(work, ordered[start : start + CHUNK]))
            if start + CHUNK < len(ordered):
                time.sleep(min(0.1, time.monotonic() - began))

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
        """A training has looked at these forms (annotation, updated_at); what changed since then stays new.

        A star or a touch since then gave the form a later time, and changed nothing.
        """
        pairs = list(forms)

        def work(session: Session) -> None:
            for annotation, updated_at in pairs:
                seen = update(SubmissionRow).filter_by(project=project, annotation=annotation)
                seen = seen.where(SubmissionRow.changed_at <= updated_at, SubmissionRow.updated_at >= updated_at)
                session.execute(seen.values(training=training))

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
