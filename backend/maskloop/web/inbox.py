"""Events of Label Studio on their way into the ledger.

What is proven is recorded before the webhook is acknowledged: it cannot be lost. Then, and for
events that anybody could have sent, Label Studio itself is asked how things are, on a thread
of its own; whatever is lost there with this process is found again by polling. What a submission
cost is measured on a thread of its own, too: it decodes masks, and an annotator waits for the answer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from maskloop import metrics
from maskloop.jobs.effort import measure
from maskloop.jobs.submissions import from_api, from_event
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.labelstudio.events import Deleted, Event, ProjectUpdated, Submitted, TasksDeleted
from maskloop.labelstudio.records import LabelStudioError, Missing, is_gone
from maskloop.ledger import Ledger, Recorded, Submission
from maskloop.web.background import Background

log = logging.getLogger(__name__)

WAITING = 1000
"""Events that may wait to be looked up; what comes beyond is found by polling."""

UNREAD = 10_000
"""Annotations of one event that are looked up; polling finds more."""

UNMEASURED = 100
"""Submissions that may wait to be measured; what comes beyond is missing in the metrics."""


class Inbox:
    """Records events; without a ``client`` only proven ones, as they say."""

    def __init__(self, ledger: Ledger, client: LabelStudioClient | None, max_pixels: int) -> None:
        self._ledger = ledger
        self._client = client
        self._max_pixels = max_pixels
        self._background = Background("inbox", self._look_up, WAITING)
        self._efforts = Background("efforts", self._measure, UNMEASURED)
        self._met: set[int] = set()

    def take(self, event: Event, proven: bool) -> None:
        """Record an event; a doubtful one counts only once Label Studio confirms it."""
        if proven:
            self._record(event)
        if self._client is not None and not self._background.put(_bare(event)):
            log.warning("too many events at once; polling finds what is not looked up now")

    def meet(self, project: int) -> None:
        """Remember a project that was connected, even if no event of it ever arrives. Nobody waits for it."""
        if (
            self._client is not None
            and project not in self._met
            and self._background.put(ProjectUpdated(project, None))
        ):
            self._met.add(project)

    def close(self) -> None:
        """Finish what waits, then stop."""
        self._background.close()
        self._efforts.close()

    def _record(self, event: Event) -> None:
        match event:
            case Submitted():
                config = event.label_config or self._ledger.label_config(event.project) or ""
                if event.label_config:
                    self._ledger.record_project(event.project, event.label_config)
                for annotation in event.annotations:
                    self._submit(from_event(annotation, config))
            case Deleted() if event.project is not None:
                self._ledger.delete_annotations(event.project, event.annotations)
            case TasksDeleted() if event.project is not None:
                self._ledger.delete_tasks(event.project, event.tasks)
            case ProjectUpdated() if event.label_config:
                self._ledger.record_project(event.project, event.label_config)

    def _submit(self, submission: Submission) -> None:
        if self._ledger.record_submission(submission) in (Recorded.NEW, Recorded.CHANGED):
            metrics.SUBMISSIONS.labels(str(submission.project)).inc()
            if not self._efforts.put(submission):
                log.info("annotation %d is not measured: too many submissions at once", submission.annotation)

    def _measure(self, submissions: Sequence[Submission]) -> None:
        for submission in submissions:
            project = str(submission.project)
            try:
                for effort in measure(self._ledger, submission):
                    metrics.CLICKS_PER_MASK.labels(project).observe(effort.clicks)
                    metrics.SUBMISSION_IOU.labels(project).observe(effort.iou)
            except Exception:
                log.exception("annotation %d could not be measured", submission.annotation)

    def _look_up(self, events: Sequence[Event]) -> None:
        assert self._client is not None
        for event in events:
            try:
                self._confirm(self._client, event)
            except LabelStudioError as error:
                log.warning("an event could not be looked up, polling will find it: %s", error)
            except Exception:
                log.exception("an event could not be looked up")

    def _forget_annotations(self, client: LabelStudioClient, project: int, annotations: Sequence[int]) -> None:
        """Forget those that are gone. What was never seen leaves no mark: anybody may name a number to come."""
        known = self._ledger.known_forms(project)
        gone = [number for number in annotations if number in known and is_gone(client.annotation, number)]
        self._ledger.delete_annotations(project, gone)

    def _confirm(self, client: LabelStudioClient, event: Event) -> None:
        """Ask Label Studio how things are and record that."""
        match event:
            case Submitted():
                project = client.project(event.project)
                self._ledger.record_project(project.id, project.label_config)
                for told in event.annotations:
                    try:
                        annotation = client.annotation(told.id)
                        data = client.task(annotation.task).data
                    except Missing:
                        self._forget_annotations(client, event.project, [told.id])
                        continue
                    if annotation.project == event.project:
                        self._submit(from_api(annotation, data, project.label_config, self._max_pixels))
            case Deleted() if event.project is not None:
                self._forget_annotations(client, event.project, event.annotations)
            case TasksDeleted() if event.project is not None:
                known = self._ledger.known_tasks(event.project)
                gone = [number for number in event.tasks if number in known and is_gone(client.task, number)]
                self._ledger.delete_tasks(event.project, gone)
            case ProjectUpdated():
                self._ledger.record_project(event.project, client.project(event.project).label_config)


def _bare(event: Event) -> Event:
    """An event without what Label Studio is asked for again anyway: masks would fill the memory while they wait."""
    if not isinstance(event, Submitted):
        return event
    few = tuple(replace(told, regions=(), masks=(), left_out=(), data={}) for told in event.annotations[:UNREAD])
    return replace(event, annotations=few, label_config=None)
