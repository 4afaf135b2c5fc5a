"""Teaching the decoder, for each family of models that has one to teach."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from maskloop.jobs.material import embed
from maskloop.jobs.run import Run
from maskloop.learn import sam_lessons
from maskloop.learn.checkpoint import Course, state
from maskloop.learn.clicknet_lessons import ClicknetLessons
from maskloop.learn.finetune import Plan, finetune
from maskloop.learn.network import load_network, save_version
from maskloop.learn.sam_lessons import SamLessons
from maskloop.learn.samples import Sample
from maskloop.segment.card import read_card, write_card
from maskloop.segment.clicknet import ClickNet
from maskloop.segment.familiarity import Signature
from maskloop.segment.sam import SamSegmenter
from maskloop.segment.segmenter import Segmenter

VALIDATION_SHARE = 0.2
SECONDS = 60.0
SECONDS_PER_IMAGE = 9.0
SAM_TIMES = 4.0
"""How much longer a SAM is taught, if the time allows: one of its steps takes seconds."""
LEARNED = 5
"""Objects with a label from which on it counts as learned."""
SHARE_OF_TIME = 0.45
"""Of a training's time, what teaching the decoder may take; the rest is for examining and proposals."""


@dataclasses.dataclass(frozen=True, eq=False)
class Taught:
    """A model: the folder it is in, and the segmenter it is."""

    folder: Path
    segmenter: Segmenter


def grown(current: Segmenter, base: Segmenter) -> bool:
    """Whether a version has the frozen parts of the base as it is now, so that it can be taught further beside it.

    One from before an update of the base has its old encoder, or its old decoder beside what was learned.
    """
    if current.encoder != base.encoder:
        return False
    if not (isinstance(current, ClickNet) and isinstance(base, ClickNet)):
        return True  # a SAM's version has nothing of its base but a name, and does not load beside another
    own, its = current.network.decoder.state_dict(), base.network.decoder.state_dict()
    return all(torch.equal(own[name], its[name]) for name in its)


def teach(run: Run, trained: Sequence[Sample], current: Taught, base: Taught, device: torch.device) -> Course:
    """The decoder that did best on a fifth of the images, which it was not taught with."""
    validation, train = apart(trained)
    seconds, most = SECONDS + SECONDS_PER_IMAGE * len(trained), SHARE_OF_TIME * 60 * run.settings.train_minutes

    def report(progress: float, note: str) -> None:
        run.report(0.1 + 0.4 * progress, note)

    if isinstance(current.segmenter, SamSegmenter) and isinstance(base.segmenter, SamSegmenter):
        look = partial(embed, run.bench, segmenter=current.segmenter)
        lessons = SamLessons(current.segmenter, base.segmenter, train, validation, look)
        return finetune(lessons, sam_lessons.plan(min(SAM_TIMES * seconds, most), run.seed), run.folder, report)
    start, anchor = (load_network(one.folder).to(device) for one in (current, base))
    views = ClicknetLessons(start, anchor, train, validation)
    return finetune(views, Plan(seconds=min(seconds, most), seed=run.seed), run.folder, report)


def apart(trained: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """The images to judge by while the others are taught, and those others; of two or more, some in each.

    Every image draws its own lot, the same in every training: had the current version learned from an image that
    judges it now, hardly anything would do better.
    """
    drawn = sorted(trained, key=_lot)
    count = sum(_lot(sample) < VALIDATION_SHARE for sample in drawn)
    count = min(max(1, count), len(drawn) - 1)
    return drawn[:count], drawn[count:]


def _lot(sample: Sample) -> float:
    """A number from 0 to 1 that has nothing to do with how the hold-out is chosen."""
    return int(hashlib.sha256(f"validation {sample.content}".encode()).hexdigest()[:8], 16) / 16**8


def write_candidate(
    run: Run, folder: Path, start: Path, course: Course, trained: Sequence[Sample], known: Sequence[Signature]
) -> None:
    """A fresh folder with the model of ``start`` and the decoder that was taught on some images, ``known`` by these."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    description = f"{read_card(start).name} retrained on the submissions of project {run.project}"
    taught = Counter(target.label for sample in trained for target in sample.targets if target.label is not None)
    labels = sorted(label for label, objects in taught.items() if objects >= LEARNED)
    save_version(start, course.best, folder, description, known, labels)


def keep_weights(current: Taught, folder: Path) -> None:
    """Put the weights of the current model in place of those that were taught."""
    card = read_card(current.folder)
    if isinstance(current.segmenter, SamSegmenter):
        save_version(current.folder, state(dict(current.segmenter.net.decoder())), folder, card.description)
        return
    for name in card.weights:
        shutil.copyfile(current.folder / name, folder / name)
    write_card(folder, dataclasses.replace(card, files={name: card.files[name] for name in card.weights}))
