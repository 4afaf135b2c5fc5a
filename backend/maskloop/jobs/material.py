"""What a project's submissions give to learn from, and the embeddings it is learned on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from maskloop.jobs.submissions import config_labels
from maskloop.jobs.workbench import Timings, Workbench
from maskloop.labelstudio import rle
from maskloop.labelstudio.images import ImageError, LoadedImage
from maskloop.learn import samples as samples_of
from maskloop.learn.samples import TRAINING_SIDE, Collected, Sample
from maskloop.ledger import Ledger
from maskloop.segment.card import read_card, sha256
from maskloop.segment.prompt import Image, Mask
from maskloop.segment.segmenter import Embedding, Scaling, Segmenter
from maskloop.settings import Settings


def collect(
    bench: Workbench, ledger: Ledger, project: int, settings: Settings, report: Callable[[int], None]
) -> Collected:
    """A project's submissions as samples; ``report`` is told how many images have been read."""
    count = 0

    def load(url: str, task: int) -> tuple[Image, str]:
        nonlocal count
        count += 1
        report(count)
        if not url:
            raise ValueError("the task names no image")
        try:
            image = bench.image(url, task)
        except ImageError as error:
            raise ValueError(str(error)) from None
        return image.pixels, image.content

    def decode(data: bytes, size: tuple[int, int]) -> Mask:
        mask: Mask = rle.decode(data, size, settings.max_image_megapixels * 1_000_000) >= 128
        return mask

    labels = config_labels(ledger.label_config(project))
    return samples_of.collect(ledger.submissions(project), load, decode, labels, ledger.parts(project))


def embed(bench: Workbench, sample: Sample, segmenter: Segmenter) -> Embedding:
    """The embedding of a sample: the one that answered the annotator's clicks where that fits.

    It does not if the image was made smaller since, unless the encoder sees all images at one size.
    """
    height, width = sample.pixels.shape[:2]
    smaller = max(height, width) >= TRAINING_SIDE
    if smaller and isinstance(segmenter, Scaling):
        with suppress(_NotCached):
            return segmenter.at_size(bench.embeddings.get(sample.content, segmenter, _not_cached), (height, width))
    content = f"{sample.content}@{width}x{height}" if smaller else sample.content
    return bench.embedding(LoadedImage(sample.pixels, content), segmenter, Timings())


class _NotCached(Exception):
    """Nobody has the embedding."""


def _not_cached() -> Image:
    raise _NotCached


def weights_of(folder: Path) -> str:
    """A few digits that stand for the weights in a model's folder."""
    card = read_card(folder)
    return "".join((card.files[name] or sha256(folder / name))[:16] for name in card.weights)
