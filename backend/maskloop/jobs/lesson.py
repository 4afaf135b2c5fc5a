"""What one training learns: a decoder and proposals, examined on the hold-out, in a folder ready to be published."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

import torch

from maskloop.jobs.material import embed, weights_of
from maskloop.jobs.proposals import write_signatures
from maskloop.jobs.run import Run
from maskloop.jobs.submissions import config_labels
from maskloop.jobs.teaching import Taught, grown, keep_weights, teach, write_candidate
from maskloop.learn import exam, propose
from maskloop.learn.gate import Score, Verdict, judge
from maskloop.learn.report import BeforeAfter, Report
from maskloop.learn.samples import HOLDOUT, TRAIN, Collected, Sample
from maskloop.learn.standing import Standing, gain, loss
from maskloop.learn.versions import LIVE
from maskloop.segment.device import device_or_cpu
from maskloop.segment.familiarity import signature
from maskloop.segment.segmenter import Segmenter

log = logging.getLogger(__name__)

EXAM_TIME = 0.1
"""Of a training's time, what examining the candidate may take; the other versions take about as long, once."""


@dataclass(frozen=True, eq=False)
class Learned:
    """A candidate's folder, and what there is to say about it."""

    name: str
    folder: Path
    report: Report
    sheet: Sequence[BeforeAfter]


def learn(run: Run, collected: Collected, trained: Sequence[Sample], held: Sequence[Sample]) -> Learned:
    """Teach, examine, judge, where models run; what fails on a GPU, for want of memory say, is done on the CPU.

    ``held`` is only ever looked at to judge.
    """
    device = device_or_cpu(run.settings.device)
    if device.type != "cpu":
        try:
            return _learn(run, collected, trained, held, device)
        except (RuntimeError, TypeError) as error:  # torch raises both
            log.warning("training %d failed on %s and goes on on the CPU: %s", run.training.id, device, error)
    return _learn(run, collected, trained, held, torch.device("cpu"))


def _learn(
    run: Run, collected: Collected, trained: Sequence[Sample], held: Sequence[Sample], device: torch.device
) -> Learned:
    torch.manual_seed(run.seed)
    current = run.bench.sound(run.bench.versions.current(run.project))
    base = run.bench.base_version
    base_folder = run.bench.catalog.folder(run.settings.model)
    current_folder = run.bench.versions.folder(current) or base_folder
    candidate = run.folder / "candidate"

    folders = {current: current_folder, base: base_folder}
    models = {
        version: Taught(folder, run.bench.catalog.load(folder, device=str(device)))
        for version, folder in folders.items()
    }
    start = base
    if current == base or grown(models[current].segmenter, models[base].segmenter):
        start = current
    else:
        log.info("training %d begins with the base %s, which %s does not have", run.training.id, base, current)
    course = teach(run, trained, models[start], models[base], device)
    seen = partial(embed, run.bench, segmenter=models[start].segmenter)
    known = [signature(seen(sample)) for sample in trained]
    write_candidate(run, candidate, folders[start], course, trained, known)
    folders = {run.name: candidate, **folders}
    segmenters = {version: one.segmenter for version, one in models.items()}
    segmenters = {run.name: run.bench.catalog.load(candidate, device=str(device)), **segmenters}
    scores, asked = _examine(run, segmenters, folders, held)
    verdict = judge(scores[run.name], scores[current], scores[base])

    chosen = segmenters[run.name if verdict.promote else current]
    look = partial(embed, run.bench, segmenter=chosen)
    proposer = propose.fit(trained, chosen, look, run.seed, lambda p: run.report(0.8 + 0.1 * p, "learning to propose"))
    standing = propose.tune(
        proposer, held, trained, chosen, look, lambda p: run.report(0.9 + 0.08 * p, "tuning the proposals")
    )
    labels = config_labels(run.ledger.label_config(run.project))
    standing = _in_config(standing, labels)
    before = _in_config(propose.standing(current_folder), labels)
    serving = propose.load(current_folder)

    def again() -> dict[str, Standing]:
        return _in_config(propose.tune(serving, held, trained, chosen, look, lambda _: None), labels)

    weighed = weigh(verdict, standing, before, again)
    if weighed.verdict.promote and not verdict.promote:
        keep_weights(models[current], candidate)
        if start != current:
            seen = partial(embed, run.bench, segmenter=models[current].segmenter)
            known = [signature(seen(sample)) for sample in trained]
    verdict = weighed.verdict
    if weighed.kept is not None:
        proposer, standing = serving, weighed.kept
    proposer.save(candidate, standing)
    live = [label for label, one in standing.items() if one.live]
    (candidate / LIVE).write_text(json.dumps(live))
    write_signatures(candidate, known + [signature(seen(sample)) for sample in held])
    report = Report(
        project=run.project,
        training=run.training.id,
        started_from=current,
        base=base,
        seed=run.seed,
        seconds=time.monotonic() - run.began,
        steps=course.step,
        verdict=verdict,
        curve=course.curve,
        used={TRAIN: _used(trained), HOLDOUT: _used(held)},
        left_out=collected.left_out,
        submissions=collected.forms,
        proposals={label: dataclasses.asdict(one) for label, one in standing.items()},
        taught_from="" if start == current else start,
    )
    return Learned(run.name, candidate, report, _before_after(run, asked, segmenters[current], segmenters[run.name]))


@dataclass(frozen=True)
class Weighed:
    """The verdict on clicks and proposals together. ``kept`` is the standing of those that serve, where they stay."""

    verdict: Verdict
    kept: dict[str, Standing] | None = None


def weigh(
    clicks: Verdict,
    new: Mapping[str, Standing],
    before: Mapping[str, Standing],
    again: Callable[[], dict[str, Standing]],
) -> Weighed:
    """Better clicks do not bring worse proposals, and better proposals not worse clicks: either may stay as it was.

    ``before`` is the standing of the proposals that serve; ``again`` judges these on the hold-out as it is now.
    """
    if clicks.promote:
        if any(one.live for one in before.values()) and (why := loss(new, old := again())):
            reasons = (*clicks.reasons, f"proposals stay as they are: {why}")
            return Weighed(dataclasses.replace(clicks, reasons=reasons), old)
    elif why := gain(new, before, again):
        reasons = (why, *(f"clicks stay as they are: {reason}" for reason in clicks.reasons))
        return Weighed(dataclasses.replace(clicks, promote=True, reasons=reasons))
    return Weighed(clicks)


def _examine(
    run: Run, segmenters: Mapping[str, Segmenter], folders: Mapping[str, Path], held: Sequence[Sample]
) -> tuple[dict[str, list[Score]], tuple[exam.Question, ...]]:
    """The scores of every version on the same questions: as many as the first, in its share of the time, can answer."""
    asked = exam.questions(held)
    seconds = EXAM_TIME * 60 * run.settings.train_minutes
    scores: dict[str, list[Score]] = {}
    for number, (version, segmenter) in enumerate(segmenters.items()):

        def report(progress: float, number: int = number) -> None:
            run.report(0.5 + 0.3 * (number + progress) / len(segmenters), "examining on the hold-out")

        look, known = partial(embed, run.bench, segmenter=segmenter), run.folder / "exams.json"
        weights = weights_of(folders[version])
        scores[version] = exam.take(segmenter, weights, asked, look, known, report, seconds if number == 0 else inf)
        asked = asked[: len(scores[version])]
    return scores, asked


def _in_config(standing: Mapping[str, Standing], labels: frozenset[str] | None) -> dict[str, Standing]:
    """The config may have changed while we trained: a label that is gone is not shown."""
    return {
        label: one
        if labels is None or label in labels
        else dataclasses.replace(one, live=False, why="the label is no longer in the labeling config")
        for label, one in standing.items()
    }


def _before_after(run: Run, asked: Sequence[exam.Question], before: Segmenter, after: Segmenter) -> list[BeforeAfter]:
    shown = []
    for sample, target in asked[:8]:
        prompt, old, old_iou = next(exam.corrected(before, embed(run.bench, sample, before), target, 1))
        _, new, new_iou = next(exam.corrected(after, embed(run.bench, sample, after), target, 1))
        shown.append(BeforeAfter(sample.pixels, target.mask, prompt.points[0], old, new, old_iou, new_iou))
    return shown


def _used(samples: Sequence[Sample]) -> list[tuple[str, int, int]]:
    return [(sample.content, sample.task, len(sample.targets)) for sample in samples]
