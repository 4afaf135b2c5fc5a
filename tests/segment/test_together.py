from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from maskloop.segment.catalog import Catalog
from maskloop.segment.clicknet import ClickNet
from maskloop.segment.memory import ANSWERS
from maskloop.segment.prompt import Box, Image, Point, Prompt
from maskloop.segment.segmenter import Prediction, Together
from maskloop.segment.together import alone, in_step
from maskloop.settings import default_models_dir

Way = Generator["Number", int, int]


@dataclass(frozen=True)
class Number:
    value: int
    shape: str = "same"


def adds(*values: int, shape: str = "same") -> Way:
    total = 0
    for value in values:
        total += yield Number(value, shape)
    return total


def test_questions_of_one_shape_are_asked_together() -> None:
    passes: list[list[int]] = []

    def doubled(numbers: Sequence[Number]) -> list[int]:
        passes.append([number.value for number in numbers])
        return [2 * number.value for number in numbers]

    assert in_step([adds(1, 2), adds(3), adds(4, 5, shape="other"), adds()], doubled) == [6, 6, 18, 0]
    assert passes == [[1, 3], [4], [2], [5]]


def test_a_failure_is_that_of_those_who_asked() -> None:
    def picky(numbers: Sequence[Number]) -> list[int]:
        if numbers[0].shape == "bad":
            raise RuntimeError("no pass for these")
        return [number.value for number in numbers]

    def stumbles() -> Way:
        yield Number(1)
        raise ValueError("of its own")

    right, refused, stumbled = in_step([adds(1, 2), adds(3, shape="bad"), stumbles()], picky)
    assert right == 3
    assert isinstance(refused, RuntimeError)
    assert isinstance(stumbled, ValueError)


def test_alone_a_failure_is_raised() -> None:
    assert alone(adds(1, 2), lambda numbers: [n.value for n in numbers]) == 3
    with pytest.raises(ZeroDivisionError):
        alone(adds(1), lambda numbers: [1 // 0 for _ in numbers])


def scene(height: int, width: int, seed: int) -> Image:
    image = np.random.default_rng(seed).integers(40, 90, (height, width, 3)).astype(np.uint8)
    image[height // 4 : height // 2, width // 4 : width // 2] = (210, 60, 40)
    return image


@pytest.fixture(scope="module")
def clicknet() -> ClickNet:
    loaded = Catalog(default_models_dir()).load("clicknet", "cpu", 1)
    assert isinstance(loaded, ClickNet)
    return loaded


@pytest.mark.usefixtures("one_thread")
def test_clicknet_answers_together_as_alone_in_fewer_passes(
    clicknet: ClickNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, upright = (clicknet.encode(scene(*size)) for size in ((120, 180, 0), (120, 180, 1), (200, 130, 2)))
    click, other = Point(60, 40), Point(150, 100, False)
    asked = [
        (first, Prompt((click,))),
        (second, Prompt((click, other, Point(70, 50)))),
        (second, Prompt((click,))),
        (upright, Prompt((Point(45, 70),))),
        (first, Prompt(box=Box(40, 25, 95, 65))),
        (first, Prompt()),
    ]
    assert isinstance(clicknet, Together)
    sizes: list[int] = []
    hook = clicknet.network.decoder.register_forward_hook(lambda net, given, made: sizes.append(len(made[0])))

    def fresh() -> None:
        monkeypatch.setattr(ANSWERS, "_kept", type(ANSWERS._kept)())
        sizes.clear()

    fresh()
    together = clicknet.decode_all(asked)
    passes = len(sizes)
    alone: list[int] = []
    single: list[Prediction] = []
    for embedding, prompt in asked[:-1]:
        fresh()
        single.append(clicknet.decode(embedding, prompt))
        alone += sizes
    hook.remove()
    assert set(alone) == {1, 2}, "a glance, or a look with its mirror image"
    assert passes < len(alone)
    for many, one in zip(together, single, strict=False):
        assert isinstance(many, Prediction)
        assert one.mask.any()
        assert (many.mask != one.mask).sum() <= 0.01 * one.mask.sum()
        assert many.score == pytest.approx(one.score, abs=1e-3)
    assert isinstance(together[-1], ValueError)


@pytest.mark.usefixtures("one_thread")
def test_an_answer_given_together_keeps_its_own_part_in_memory_only(clicknet: ClickNet) -> None:
    embeddings = [clicknet.encode(scene(120, 180, seed)) for seed in (3, 4)]
    points = (Point(60, 40), Point(20, 100, False))
    clicknet.decode_all([(embedding, Prompt(points)) for embedding in embeddings])
    kept = [k.value.logits for k in ANSWERS._kept.values() if k.embedding() in embeddings]
    assert len(kept) == 4
    assert all(logits.flags.owndata for logits in kept)
