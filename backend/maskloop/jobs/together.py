"""Clicks that waited together, decoded in one pass where the model can, and none waiting for another's image."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from maskloop.jobs.predict import Case, answered, opened
from maskloop.jobs.workbench import Workbench
from maskloop.queue.job import Payload, Result
from maskloop.segment.prompt import Prompt
from maskloop.segment.segmenter import Embedding, Prediction, Segmenter, Together
from maskloop.segment.together import in_step


@dataclass(frozen=True, eq=False)
class Ask:
    """A prompt for a model; what goes to one model goes together."""

    segmenter: Segmenter
    embedding: Embedding
    prompt: Prompt

    @property
    def shape(self) -> int:
        return id(self.segmenter)


def predict_together(bench: Workbench, payloads: Sequence[Payload]) -> Iterator[Result | Exception]:
    """The answer of each prompt, in order; each failure is that of one prompt.

    Those before an image that must be encoded first are answered before that.
    """
    group: list[Case | Exception] = []
    for payload in payloads:
        try:
            case: Case | Exception = opened(bench, payload)
        except Exception as error:
            case = error
        if group and isinstance(case, Case) and not bench.at_hand(case.image, case.segmenter):
            yield from in_step([_way(bench, earlier) for earlier in group], _answers)
            group = []
        group.append(case)
    yield from in_step([_way(bench, earlier) for earlier in group], _answers)


def _way(bench: Workbench, case: Case | Exception) -> Generator[Ask, Prediction | Exception, Result]:
    if isinstance(case, Exception):
        raise case
    embedding = bench.embedding(case.image, case.segmenter, case.timings)
    now = time.perf_counter()
    found = yield Ask(case.segmenter, embedding, case.request.prompt)
    if isinstance(found, Exception):
        raise found
    return answered(case, found, now)


def _answers(asks: Sequence[Ask]) -> Sequence[Prediction | Exception]:
    segmenter = asks[0].segmenter
    if len(asks) > 1 and isinstance(segmenter, Together):
        return segmenter.decode_all([(ask.embedding, ask.prompt) for ask in asks])
    return [_decoded(ask) for ask in asks]


def _decoded(ask: Ask) -> Prediction | Exception:
    try:
        return ask.segmenter.decode(ask.embedding, ask.prompt)
    except Exception as error:
        return error
