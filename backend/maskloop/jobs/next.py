"""Which tasks a person should look at next."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from maskloop.jobs.proposals import Proposals
from maskloop.jobs.submissions import config_labels, image_url
from maskloop.jobs.workbench import Workbench
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.labelstudio.images import ImageError
from maskloop.labelstudio.records import Missing
from maskloop.learn.uncertainty import Certainty

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranked:
    """A task, how well its image is known, and how many masks are proposed on it."""

    task: int
    certainty: Certainty
    masks: int


def rank(bench: Workbench, client: LabelStudioClient, project: int, tasks: Iterable[int]) -> list[Ranked]:
    """Tasks, the least known first. Raises LabelStudioError; a task without a readable image is left out."""
    config = client.project(project).label_config
    labels = config_labels(config)
    version = bench.versions.current(project)
    proposals = Proposals(bench)
    found: list[Ranked] = []
    for task in tasks:
        try:
            image = bench.image(image_url(client.task(task).data, config), task)
        except (ImageError, Missing) as error:
            log.warning("task %d is left out: %s", task, error)
            continue
        proposed, certainty = proposals.on_image(version, image, labels, project)
        found.append(Ranked(task, certainty, len(proposed)))
    return sorted(found, key=lambda one: one.certainty.score)
