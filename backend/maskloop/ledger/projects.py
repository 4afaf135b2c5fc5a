"""Projects: their labeling config, and until when Label Studio was asked for what their events did not tell."""

from __future__ import annotations

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from maskloop.ledger.store import Store, insert
from maskloop.ledger.tables import ProjectRow, SubmissionRow


class Projects(Store):
    def record_project(self, project: int, label_config: str) -> None:
        """Remember a project's labeling config as it is now."""

        def work(session: Session) -> None:
            row = known_project(session, project)
            if row.label_config != label_config:
                row.label_config = label_config

        self._write(work)

    def label_config(self, project: int) -> str | None:
        """The labeling config last seen, "" if none was, None for an unknown project."""

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
            row = known_project(session, project)
            row.polled_until, row.polled_at = until, time.time()

        self._write(work)


def known_project(session: Session, project: int) -> ProjectRow:
    """The row of a project, made if there is none: a project without one is never asked for lost events."""
    row = {"id": project, "label_config": "", "polled_until": "", "polled_at": 0.0}
    session.execute(insert(session, ProjectRow).on_conflict_do_nothing(), row)
    return session.get_one(ProjectRow, project)
