"""Two versions of a project, clicked through its hold-out."""

from __future__ import annotations

from functools import partial

from maskloop.jobs.handlers import build_workbench
from maskloop.jobs.material import collect, embed, weights_of
from maskloop.learn import gate
from maskloop.learn.gate import Change
from maskloop.learn.samples import HOLDOUT, part_of
from maskloop.ledger import Ledger
from maskloop.settings import Settings


class NothingHeldOut(Exception):
    """The project has no hold-out yet."""


def compare(settings: Settings, project: int, first: str, second: str) -> tuple[list[Change], int, int]:
    """The change of every metric from one version to the other, the number of objects, and of images.

    Raises VersionError for a version that does not exist, NothingHeldOut.
    """
    from maskloop.learn import exam
    from maskloop.segment.device import device_or_cpu

    bench = build_workbench(settings)
    folders = {version: bench.versions.folder(version) for version in (first, second)}
    ledger = Ledger(settings.ledger_url)
    try:
        parts = ledger.parts(project)
        collected = collect(bench, ledger, project, settings, lambda count: None)
    finally:
        ledger.close()
    held = [sample for sample in collected.samples if part_of(sample, parts) == HOLDOUT]
    if not held:
        raise NothingHeldOut(f"project {project} has no hold-out yet: nothing was trained from its submissions")
    asked = exam.questions(held)
    known = settings.data_dir / "learning" / f"p{project}" / "exams.json"
    known.parent.mkdir(parents=True, exist_ok=True)
    scores = []
    for found in folders.values():
        folder = found or bench.catalog.folder(settings.model)
        segmenter = bench.catalog.load(folder, device=str(device_or_cpu(settings.device)))
        look = partial(embed, bench, segmenter=segmenter)
        scores.append(exam.take(segmenter, weights_of(folder), asked, look, known, lambda progress: None))
    changes = [gate.compare(scores[0], scores[-1], metric) for metric in gate.METRICS]
    return changes, len(asked), len({sample.content for sample, _ in asked})
