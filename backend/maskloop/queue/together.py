"""Runs jobs of one name together, and knows what a GPU does when it is out of memory or out of order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from maskloop.queue.job import Handler, JobError, Payload, Result

log = logging.getLogger(__name__)


class DeviceLost(Exception):
    """The device failed in a way that only a new process recovers from."""


def run_together(handler: Handler, payloads: Sequence[Payload], free: Callable[[], None]) -> list[Result | Exception]:
    """One outcome for each payload, in order.

    Out of memory: ``free`` is called and what failed runs once more, one by one. Any other
    CUDA error raises DeviceLost: such an error sticks to the process.
    """
    outcomes = _run(handler, payloads)
    starved = [i for i, outcome in enumerate(outcomes) if _out_of_memory(outcome)]
    if starved:
        log.warning("out of device memory with %d jobs at once; running %d again", len(payloads), len(starved))
        free()
        for i in starved:
            (outcomes[i],) = _run(handler, [payloads[i]])
            if _out_of_memory(outcomes[i]):
                free()
                outcomes[i] = JobError("the image needs more device memory than there is; use a smaller model or image")
    return outcomes


def _run(handler: Handler, payloads: Sequence[Payload]) -> list[Result | Exception]:
    outcomes: list[Result | Exception]
    try:
        outcomes = list(handler(payloads))
        if len(outcomes) != len(payloads):
            raise RuntimeError(f"{len(payloads)} jobs were given and {len(outcomes)} answers came")
    except Exception as error:  # one bad batch must not end the worker
        outcomes = [error] * len(payloads)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            if _device_error(outcome):
                raise DeviceLost(str(outcome)) from outcome
            if not isinstance(outcome, JobError) and not _out_of_memory(outcome):
                log.error("a job failed", exc_info=outcome)
    return outcomes


def _names(error: object) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _out_of_memory(outcome: object) -> bool:
    # By name: this module runs where torch may be missing, and torch has had two such classes.
    return isinstance(outcome, Exception) and "OutOfMemoryError" in _names(outcome)


def _device_error(error: Exception) -> bool:
    if _out_of_memory(error):
        return False
    return "AcceleratorError" in _names(error) or "CUDA error" in str(error) or "cuDNN error" in str(error)
