"""Several prompts in step: what their answers ask of a network in the same moment is asked in one pass.

The way from a prompt to its mask is a generator that yields each question to the network and gets the answer sent.
Alone or in company, it is the same way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Hashable, Sequence
from functools import partial
from typing import Protocol, TypeVar


class Question(Protocol):
    """What a network is asked; questions of one ``shape`` fit into one pass."""

    @property
    def shape(self) -> Hashable: ...


Q = TypeVar("Q", bound=Question)
A = TypeVar("A")
T = TypeVar("T")


def alone(way: Generator[Q, A, T], answer: Callable[[Sequence[Q]], Sequence[A]]) -> T:
    """What a way returns; raises what it raises."""
    (outcome,) = in_step([way], answer)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def in_step(ways: Sequence[Generator[Q, A, T]], answer: Callable[[Sequence[Q]], Sequence[A]]) -> list[T | Exception]:
    """What each way returns or raises. ``answer`` gets questions of one shape; its failure is that of all who asked."""
    outcomes: dict[int, T | Exception] = {}
    asking: dict[int, Q] = {}

    def go_on(index: int, step: Callable[[], Q]) -> None:
        try:
            asking[index] = step()
        except StopIteration as end:
            outcomes[index] = end.value
        except Exception as error:
            outcomes[index] = error

    for index, way in enumerate(ways):
        go_on(index, partial(next, way))
    while asking:
        alike: dict[Hashable, dict[int, Q]] = defaultdict(dict)
        for index, question in asking.items():
            alike[question.shape][index] = question
        asking.clear()
        for questions in alike.values():
            try:
                answers = answer(list(questions.values()))
            except Exception as error:
                for index in questions:
                    go_on(index, partial(ways[index].throw, error))
            else:
                for index, found in zip(questions, answers, strict=True):
                    go_on(index, partial(ways[index].send, found))
    return [outcomes[index] for index in range(len(ways))]
