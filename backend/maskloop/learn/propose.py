"""Pre-annotation that learns: objects proposed with no prompt at all, from the same submissions.

A small network on frozen features says for every pixel which label it looks like and how deep inside an object
it lies; regions of one object each are turned into masks by the click decoder, prompted in the way that did best
on the trained images. A label goes live only where its proposals are good enough on the hold-out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from maskloop.learn.head import Head, Lesson, Report, maps, pixel_lessons, train_head
from maskloop.learn.islands import Manner, Proposal, islands, proposed, without_doubles
from maskloop.learn.manners import Embed, best_manner, first_manner, found
from maskloop.learn.pixels import BANK, look
from maskloop.learn.samples import Sample
from maskloop.learn.standing import Standing, stand
from maskloop.segment.prompt import Image
from maskloop.segment.segmenter import Embedding, Segmenter

FILE = "proposals.safetensors"

MOST_PROPOSALS = 100
MOST_PIXELS = 400_000_000
"""Of the masks of one image's proposals together: a large image gets fewer."""

ASIDE = 8
"""Images at most that decide which features a head sees."""


@dataclass(frozen=True, eq=False)
class Proposer:
    """A trained head. ``floors`` holds the labels that are live and the least score they are shown with."""

    head: Head | None
    manners: Mapping[str, Manner]
    floors: Mapping[str, float]

    def propose(
        self,
        pixels: Image,
        embedding: Embedding,
        segmenter: Segmenter,
        pause: Callable[[], None] = lambda: None,
        labels: Collection[str] | None = None,
    ) -> list[Proposal]:
        """The masks of the live labels (of ``labels``, if given) on an image, best first; none is an honest answer.

        ``pause`` is called after each mask: a crowded image takes seconds.
        """
        wanted = frozenset(self.floors if labels is None else set(labels) & set(self.floors))
        found = self.all(pixels, embedding, segmenter, wanted, pause)
        return [p for p in found if p.score >= self.floors[p.label]][:MOST_PROPOSALS]

    def all(
        self,
        pixels: Image,
        embedding: Embedding,
        segmenter: Segmenter,
        labels: frozenset[str] | None = None,
        pause: Callable[[], None] = lambda: None,
    ) -> list[Proposal]:
        """Everything that may be an object of one of the labels (all by default), best first, no doubles."""
        wanted = [label for label in self.manners if labels is None or label in labels]
        if self.head is None or not wanted:
            return []
        likeness, depth = maps(self.head, look(pixels, embedding, segmenter, len(self.head.mean)))
        most = min(MOST_PROPOSALS, max(10, MOST_PIXELS // (pixels.shape[0] * pixels.shape[1])))
        found: list[Proposal] = []
        for index, label in enumerate(self.manners):
            if label in wanted:
                manner = self.manners[label]
                for region in islands(likeness[index], depth, manner)[:most]:
                    proposal = proposed(region, likeness[index], label, manner.way, pixels, embedding, segmenter)
                    if proposal is not None:
                        found.append(proposal)
                    pause()
        return without_doubles(sorted(found, key=lambda p: -p.score))

    def save(self, folder: Path, standing: Mapping[str, Standing]) -> None:
        """Write the head and what the hold-out says beside the weights of a version."""
        tensors = {} if self.head is None else {n: t.contiguous() for n, t in self.head.state_dict().items()}
        about = {
            "manners": {label: asdict(manner) for label, manner in self.manners.items()},
            "standing": {label: asdict(one) for label, one in standing.items()},
        }
        save_file({**tensors, "version": torch.tensor([1])}, folder / FILE, metadata={"about": json.dumps(about)})


def load(folder: Path | None) -> Proposer:
    """The proposer of a version; one that proposes nothing where there is none."""
    nobody = Proposer(None, {}, {})
    if folder is None:
        return nobody
    try:
        with safe_open(folder / FILE, "pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys() if name != "version"}  # noqa: SIM118
    except (FileNotFoundError, SafetensorError):
        return nobody
    manners = {label: Manner(**manner) for label, manner in about["manners"].items()}
    if not tensors:
        return nobody
    head = Head(len(tensors["mean"]), len(manners))
    head.load_state_dict(tensors)
    return Proposer(head.eval(), manners, {k: s.floor for k, s in standing(folder).items() if s.live})


def standing(folder: Path | None) -> dict[str, Standing]:
    """What the hold-out said about the labels of a version; empty where there is no proposer."""
    try:
        with safe_open((folder or Path("/nonexistent")) / FILE, "pt") as file:
            about = json.loads(file.metadata()["about"])
    except (FileNotFoundError, SafetensorError):
        return {}
    return {label: Standing(**one) for label, one in about["standing"].items()}


def fit(samples: Sequence[Sample], segmenter: Segmenter, embed: Embed, seed: int, report: Report) -> Proposer:
    """A proposer for the labels of the samples; its floors are still to be tuned."""
    labels = sorted({t.label for s in samples for t in s.targets if t.label is not None})
    if not labels:
        return Proposer(None, {}, {})
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    lessons: list[Lesson] = []
    for number, sample in enumerate(samples):
        report(0.3 * number / len(samples))
        seen = look(sample.pixels, embed(sample), segmenter)
        lessons.append(pixel_lessons(sample, seen, labels, rng, len(samples)))
    manners = {label: first_manner(samples, label) for label in labels}
    order = [int(k) for k in rng.permutation(len(samples))]
    width = _width(samples, lessons, order, manners, segmenter, embed)
    report(0.4)
    head = train_head(lessons, width, lambda done: report(0.4 + 0.1 * done))
    chosen = [samples[k] for k in order[:8]]
    for index, label in enumerate(labels):
        manners[label] = best_manner(head, index, manners[label], chosen, label, segmenter, embed)
        report(0.5 + 0.5 * (index + 1) / len(labels))
    return Proposer(head, manners, {})


def _width(
    samples: Sequence[Sample],
    lessons: Sequence[Lesson],
    order: Sequence[int],
    manners: Mapping[str, Manner],
    segmenter: Segmenter,
    embed: Embed,
) -> int:
    """How many channels the head shall see: the filter bank's, or the encoder's maps too.

    The maps tell things apart that colour and texture do not, and also let a head learn the few images by heart,
    worst where not every object was labelled. Images that it was not trained on decide.
    """
    everything = lessons[0].features.shape[1]
    aside, rest = order[: len(order) // 4][:ASIDE], order[len(order) // 4 :]
    if not aside or everything == BANK:
        return everything
    values = {}
    for width in (BANK, everything):
        head = train_head([lessons[k] for k in rest], width)
        judges = [samples[k] for k in aside]
        values[width] = sum(
            found(head, index, manner, judges, label, segmenter, embed)
            for index, (label, manner) in enumerate(manners.items())
        )
    return max(values, key=lambda width: values[width])


def tune(
    proposer: Proposer,
    held: Sequence[Sample],
    trained: Sequence[Sample],
    segmenter: Segmenter,
    embed: Embed,
    report: Report,
) -> dict[str, Standing]:
    """What the held-out samples say about every label: its floor, and whether it goes live."""
    tried = [(sample, proposer.all(sample.pixels, embed(sample), segmenter)) for sample in held]
    report(0.6)
    seen = [(sample, proposer.all(sample.pixels, embed(sample), segmenter)) for sample in trained[:4]]
    report(1.0)
    return {label: stand(label, tried, seen) for label in proposer.manners}
