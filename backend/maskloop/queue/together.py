"""Runs jobs of one name together, and knows what a GPU does when it is out of memory or out of order."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence

from maskloop.queue.job import Handler, JobError, Payload, Result
from maskloop.queue.pauses import Later

log = logging.getLogger(__name__)


class DeviceLost(Exception):
    """The device failed in a way that only a new process recovers from."""


def run_together(
    handler: Handler, payloads: Sequence[Payload], free: Callable[[], None]
) -> Iterator[tuple[int, Result | Exception]]:
    """The position of each payload with its outcome, as soon as it is there.

    Out of memory: ``free`` is called and what failed runs once more at the end, one by one. Any
    other CUDA error raises DeviceLost: such an error sticks to the process.
    """
    starved: list[int] = []
    for position, outcome in enumerate(_run(handler, payloads)):
        if _out_of_memory(outcome):
            starved.append(position)
        else:
            yield position, outcome
    if starved:
        log.warning("out of device memory with %d jobs at once; running %d again", len(payloads), len(starved))
        free()
    for position in starved:
        (outcome,) = _run(handler, [payloads[position]])
        if _out_of_memory(outcome):
            free()
            outcome = JobError("the image needs more device memory than there is; use a smaller model or image")
        yield position, outcome


def _run(handler: Handler, payloads: Sequence[Payload]) -> Iterator[Result | Exception]:
    for outcome in _outcomes(handler, payloads):
        if isinstance(outcome, Exception):
            if _device_error(outcome):
                raise DeviceLost(str(outcome)) from outcome
            if not isinstance(outcome, JobError | Later) and not _out_of_memory(outcome):
                log.error("a job failed", exc_info=outcome)
        yield outcome


def _outcomes(handler: Handler, payloads: Sequence[Payload]) -> Iterator[Result | Exception]:
    """One for each payload, whatever the handler does."""
    given = 0
    try:
        outcomes = handler(payloads)
        if isinstance(outcomes, Sequence) and len(outcomes) != len(payloads):
            raise RuntimeError(f"{len(payloads)} jobs were given and {len(outcomes)} answers came")
        for outcome in itertools.islice(outcomes, len(payloads)):
            yield outcome
            given += 1
        if given < len(payloads):
            raise RuntimeError(f"{len(payloads)} jobs were given and {given} answers came")
    except Exception as error:  # one bad batch must not end the worker
        yield from [error] * (len(payloads) - given)


def _names(error: object) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _out_of_memory(outcome: object) -> bool:
    # By name: this module runs where torch may be missing, and torch has had two such classes.
    return isinstance(outcome, Exception) and "OutOfMemoryError" in _names(outcome)


def _device_error(error: Exception) -> bool:
    if _out_of_memory(error):
        return False
    return "AcceleratorError" in _names(error) or "CUDA error" in str(error) or "cuDNN error" in str(error)
