"""What a submitted mask cost, and how good the last answer was: the figures that learning must improve."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from maskloop.labelstudio import rle
from maskloop.labelstudio.rle import RleError
from maskloop.ledger import Ledger, Submission
from maskloop.segment.prompt import iou


@dataclass(frozen=True)
class Effort:
    """One submitted mask: prompts given for it, and the IoU of the last answer with it."""

    region: str
    version: str
    clicks: int
    iou: float


def measure(ledger: Ledger, submission: Submission) -> Iterator[Effort]:
    """The effort of every mask of a submission that grew from an answer of ours."""
    if submission.cancelled:
        return
    for region in submission.regions:
        if region.rle is None:
            continue
        predicted = ledger.last_prediction(submission.project, submission.task, region.id)
        if predicted is None or predicted.rle is None:
            continue
        size = (region.height, region.width)
        try:
            agreement = iou(rle.decode_mask(predicted.rle, size), rle.decode_mask(region.rle, size))
        except RleError:
            continue
        yield Effort(region.id, predicted.version, predicted.clicks, agreement)
