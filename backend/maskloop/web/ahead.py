"""Images somebody will click on soon: the opened task's, and those of the tasks that follow."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from maskloop.labelstudio.client import LabelStudioClient, LabelStudioError
from maskloop.queue.job import Job, JobError, JobQueue, Priority
from maskloop.web.background import Background

log = logging.getLogger(__name__)

WAITING = 64
"""Opened tasks whose followers still have to be looked up; beyond that they are not."""


@dataclass(frozen=True)
class Opened:
    """A task somebody opened; ``key`` is the name of the image in a task's data."""

    project: int
    task: int
    url: str
    key: str
    version: str


class Ahead:
    """Has images encoded before the first click, below anything a person waits for.

    The opened task's image is queued at once. Which tasks follow is asked of Label Studio on
    a thread of its own: opening a task must not wait for it.
    """

    def __init__(self, jobs: JobQueue, client: LabelStudioClient | None, count: int) -> None:
        self._jobs = jobs
        self._client = client
        self._count = count
        self._background = Background("ahead", self._look_up, WAITING)

    def opened(self, task: Opened) -> None:
        """Prepare the image of an opened task, then those of its followers."""
        new = self._prepare(task.url, task.task, task.version)
        if new and self._client is not None and self._count and not self._background.put(task):
            log.debug("too many tasks are being opened to prepare their followers")

    def close(self) -> None:
        self._background.close()

    def _prepare(self, url: str, task: int, version: str) -> bool:
        payload = {"url": url, "task": task, "version": version}
        try:
            return self._jobs.enqueue(Job("prepare", payload, affinity=url, key=f"{version} {url}"), Priority.PREPARE)
        except JobError as error:
            log.debug("task %d is not prepared: %s", task, error)
            return False

    def _look_up(self, tasks: Sequence[Opened]) -> None:
        for opened in tasks:
            try:
                self._prepare_followers(opened)
            except LabelStudioError as error:
                log.info("the tasks after %d are not prepared: %s", opened.task, error)
            except Exception:
                log.exception("the tasks after %d are not prepared", opened.task)

    def _prepare_followers(self, opened: Opened) -> None:
        assert self._client is not None
        following = self._client.next_task_ids(opened.project, opened.task, self._count)
        for task in self._client.tasks(opened.project, following):
            url = task.data.get(opened.key)
            if isinstance(url, str):
                self._prepare(url, task.id, opened.version)
