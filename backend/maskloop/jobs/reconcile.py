"""Finding submissions whose events were lost: Label Studio sends each webhook once, and only while we are up."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from maskloop.jobs.submissions import from_api
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.labelstudio.records import LabelStudioError, Missing, is_gone
from maskloop.ledger import Ledger, Recorded
from maskloop.ledger.submissions import normal_time

log = logging.getLogger(__name__)

OVERLAP = timedelta(minutes=2)
"""A poll looks back a little: what was being saved during the last one may carry an earlier time."""


def reconcile(ledger: Ledger, client: LabelStudioClient, project: int, max_pixels: int) -> int:
    """Ask Label Studio for what changed since the last poll; how many submissions were new to the ledger.

    The first poll of a project reads everything and also finds what was deleted meanwhile.
    Raises LabelStudioError when Label Studio cannot be asked.
    """
    config = client.project(project).label_config
    ledger.record_project(project, config)
    until, _ = ledger.polled(project)
    since = datetime.fromisoformat(until.replace("Z", "+00:00")) - OVERLAP if until else None
    known, seen, newest, found = ledger.known_forms(project), set(), until, 0
    for annotation in client.annotations(project, since):
        seen.add(annotation.id)
        at = normal_time(annotation.updated_at.isoformat())
        newest = max(newest, at)
        if known.get(annotation.id, "") >= at:
            continue
        try:
            data = client.task(annotation.task).data
        except Missing:
            continue  # deleted since the list was made
        submission = from_api(annotation, data, config, max_pixels)
        found += ledger.record_submission(submission) in (Recorded.NEW, Recorded.CHANGED)
    if since is None:
        # Asked for one by one: a list is read page by page, and what is deleted meanwhile moves the pages.
        gone = [annotation for annotation in set(known) - seen if is_gone(client.annotation, annotation)]
        ledger.delete_annotations(project, gone)
    ledger.record_poll(project, newest)
    if found:
        log.info("project %d: %d submissions whose events were lost", project, found)
    return found


def reconcile_all(ledger: Ledger, client: LabelStudioClient, projects: list[int], max_pixels: int) -> None:
    """Reconcile projects one after another; one that cannot be asked does not stop the others."""
    for project in projects:
        try:
            reconcile(ledger, client, project, max_pixels)
        except LabelStudioError as error:
            log.warning("project %d: lost events were not looked for: %s", project, error)
            ledger.record_poll(project, ledger.polled(project)[0])
