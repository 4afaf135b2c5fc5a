from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from maskloop.queue.job import Handler, JobError, Payload, Result
from maskloop.queue.together import DeviceLost, run_together
from tests.queue.process import AcceleratorError, OutOfMemoryError


def outcomes(handler: Handler, count: int = 3) -> list[tuple[int, str]]:
    payloads = [{"n": n} for n in range(count)]
    return [(position, str(outcome)) for position, outcome in run_together(handler, payloads, lambda: None)]


def test_each_outcome_is_there_before_the_next_is_asked_for() -> None:
    began: list[Any] = []

    def in_turn(payloads: Sequence[Payload]) -> Iterator[Result | Exception]:
        for payload in payloads:
            began.append(payload["n"])
            yield payload

    running = run_together(in_turn, [{"n": 0}, {"n": 1}], lambda: None)
    assert next(running) == (0, {"n": 0})
    assert began == [0]
    assert list(running) == [(1, {"n": 1})]


def test_what_breaks_in_the_middle_costs_only_what_comes_after() -> None:
    def breaks(payloads: Sequence[Payload]) -> Iterator[Result | Exception]:
        yield {}
        raise ZeroDivisionError("boom")

    assert outcomes(breaks) == [(0, "{}"), (1, "boom"), (2, "boom")]


def test_a_wrong_number_of_answers_is_an_error_and_never_somebody_elses_answer() -> None:
    for given in (2, 4):
        wrong = f"3 jobs were given and {given} answers came"
        assert outcomes(lambda _, given=given: [{}] * given) == [(n, wrong) for n in range(3)]  # type: ignore[misc]
    assert outcomes(lambda _: iter([{}] * 4)) == [(n, "{}") for n in range(3)]
    assert outcomes(lambda _: iter([{}] * 2))[2] == (2, "3 jobs were given and 2 answers came")


def test_what_found_no_memory_runs_again_after_the_others() -> None:
    freed: list[bool] = []

    def starve(payloads: Sequence[Payload]) -> Iterator[Result | Exception]:
        for payload in payloads:
            full = payload["n"] == 2 or (payload["n"] == 0 and len(payloads) > 1)
            yield OutOfMemoryError("CUDA out of memory") if full else payload

    found = list(run_together(starve, [{"n": 0}, {"n": 1}, {"n": 2}], lambda: freed.append(True)))
    assert found[:2] == [(1, {"n": 1}), (0, {"n": 0})]
    assert found[2][0] == 2
    assert isinstance(found[2][1], JobError)
    assert len(freed) == 2


def test_a_broken_device_does_not_take_back_what_was_answered() -> None:
    def breaks(payloads: Sequence[Payload]) -> Iterator[Result | Exception]:
        yield {}
        yield AcceleratorError("CUDA error: an illegal memory access was encountered")

    running = run_together(breaks, [{}, {}], lambda: None)
    assert next(running) == (0, {})
    with pytest.raises(DeviceLost):
        next(running)
