"""Finding submissions whose events were lost: Label Studio sends each webhook once, and only while we are up."""

from __future__ import annotations

import logging
import math
import time
from datetime import datetime, timedelta

from sqlalchemy.exc import OperationalError

from maskloop.jobs.submissions import from_api
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.labelstudio.records import Annotation, LabelStudioError, Missing, Unreachable, is_gone
from maskloop.ledger import Ledger, Recorded, TrainingState
from maskloop.ledger.submissions import normal_time

log = logging.getLogger(__name__)

OVERLAP = timedelta(minutes=2)
"""A poll looks back a little: what was being saved during the last one may carry an earlier time."""

WHOLE_EVERY = 86_400.0
"""Seconds after which a project is read whole again: a deletion leaves no trace in what changed lately."""

SILENT_SECONDS = 60.0
"""A Label Studio that does not answer is left alone for this long: each try may take half of it."""


class Reconciler:
    """Looks for lost events, project by project: at its first look and once a day in everything a project has."""

    def __init__(self, ledger: Ledger, client: LabelStudioClient, max_pixels: int) -> None:
        self._ledger = ledger
        self._client = client
        self._max_pixels = max_pixels
        self._read_whole: dict[int, float] = {}
        self._silent_until = 0.0

    def look(self, every: float) -> None:
        """Reconcile each project that is due; one that fails does not stop the others, but a server that is away does.

        Due is what was not asked for within ``every`` seconds, or not since a training of it was asked for.
        """
        if time.monotonic() < self._silent_until:
            return
        for seconds in (every, math.inf):  # the first may take minutes, and trainings are asked for meanwhile
            for project in self._due(seconds):
                if not self._look_at(project):
                    self._silent_until = time.monotonic() + SILENT_SECONDS
                    return

    def _due(self, every: float) -> list[int]:
        wanted = {t.project: t.requested_at for t in self._ledger.trainings() if t.state is TrainingState.WAITING}
        polled = {project: self._ledger.polled(project)[1] for project in self._ledger.projects()}
        now = time.time()
        return [p for p, at in polled.items() if now - at > every or wanted.get(p, 0.0) > at]

    def _look_at(self, project: int) -> bool:
        """Reconcile a project; False when Label Studio does not answer at all, for which each would wait in turn."""
        now, last = time.monotonic(), self._read_whole.get(project)
        whole = last is None or now - last > WHOLE_EVERY
        try:
            reconcile(self._ledger, self._client, project, self._max_pixels, whole)
        except Exception as error:
            if isinstance(error, LabelStudioError):
                log.warning("project %d: lost events were not looked for: %s", project, error)
            else:
                log.exception("project %d: lost events could not be looked for", project)
            self._ledger.record_poll(project, self._ledger.polled(project)[0])
            return not isinstance(error, Unreachable)
        if whole:
            self._read_whole[project] = now
        return True


def reconcile(ledger: Ledger, client: LabelStudioClient, project: int, max_pixels: int, whole: bool = False) -> int:
    """Ask Label Studio for what changed since the last poll; how many submissions were new to the ledger.

    The first poll of a project, and a ``whole`` one, read everything and also find what was deleted meanwhile.
    Raises LabelStudioError when Label Studio cannot be asked.
    """
    config = client.project(project).label_config
    ledger.record_project(project, config)
    until, _ = ledger.polled(project)
    since = datetime.fromisoformat(until.replace("Z", "+00:00")) - OVERLAP if until and not whole else None
    known, seen, newest, found = ledger.known_forms(project), set(), until, 0
    for annotation in client.annotations(project, since):
        seen.add(annotation.id)
        at = normal_time(annotation.updated_at.isoformat())
        newest = max(newest, at)
        if known.get(annotation.id, "") < at:
            found += _is_lost(ledger, client, annotation, config, max_pixels)
    if since is None:
        # Asked for one by one: a list is read page by page, and what is deleted meanwhile moves the pages.
        gone = [annotation for annotation in set(known) - seen if is_gone(client.annotation, annotation)]
        ledger.delete_annotations(project, gone)
    ledger.record_poll(project, newest)
    if found:
        log.info("project %d: %d submissions whose events were lost", project, found)
    return found


def _is_lost(ledger: Ledger, client: LabelStudioClient, annotation: Annotation, config: str, max_pixels: int) -> bool:
    """Record an annotation; whether that was new to the ledger. One that cannot be recorded is left out."""
    try:
        data = client.task(annotation.task).data
        submission = from_api(annotation, data, config, max_pixels)
        return ledger.record_submission(submission) in (Recorded.NEW, Recorded.CHANGED)
    except Missing:
        return False  # deleted since the list was made
    except (LabelStudioError, OperationalError):
        raise  # nothing is wrong with the annotation: the next poll must find it
    except Exception:
        log.exception("project %d: annotation %d is left out", annotation.project, annotation.id)
        return False
