from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from maskloop.learn import practice
from maskloop.learn.checkpoint import CHECKPOINT
from maskloop.learn.clicknet_lessons import ClicknetLessons
from maskloop.learn.curriculum import Chosen, Curriculum, Report, Weights
from maskloop.learn.finetune import Plan, finetune
from maskloop.learn.samples import Sample, Target
from maskloop.learn.views import view_pool
from maskloop.segment.clicknet_net import ClickNetwork

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network() -> ClickNetwork:
    torch.manual_seed(0)
    return ClickNetwork()


def sample(seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64]
    mask = (columns - 30) ** 2 + (rows - 34) ** 2 <= 12**2
    pixels = rng.normal(80, 10, (64, 64, 3))
    pixels[mask] += 90
    target = Target(seed, "r", "Disc", (64, 64), np.packbits(mask).tobytes())
    return Sample(f"{seed}", seed, "x", np.clip(pixels, 0, 255).astype(np.uint8), (target,))


class Killed(Exception):
    pass


def test_a_training_that_was_killed_goes_on_from_its_checkpoint(
    network: ClickNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskloop.learn.finetune.CHECKPOINT_SECONDS", 0.0)
    plan = Plan(seconds=600, batch=2, steps=4, exams=2, per_object=1)
    lessons, validation = [sample(1), sample(2)], [sample(3)]

    def stop(progress: float, note: str) -> None:
        if note == "step 3":
            raise Killed

    with pytest.raises(Killed):
        finetune(ClicknetLessons(network, network, lessons, validation), plan, tmp_path, stop)
    notes: list[str] = []
    course = finetune(
        ClicknetLessons(network, network, lessons, validation), plan, tmp_path, lambda _, note: notes.append(note)
    )
    assert next(note for note in notes if note.startswith("step")) == "step 3"
    assert course.step == 4
    assert [row[0] for row in course.curve] == [0, 2, 4]
    assert course.best_value >= (course.curve[0][2] + course.curve[0][3]) / 2
    assert set(course.best) == set(network.decoder.state_dict())
    lessons = [sample(7)]
    other = finetune(
        ClicknetLessons(network, network, lessons, validation), plan, tmp_path, lambda _, note: notes.append(note)
    )
    assert other.step == 4
    assert "step 1" in notes


def test_a_damaged_checkpoint_is_not_believed(network: ClickNetwork, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"half a file")
    plan = Plan(seconds=600, batch=1, steps=1, exams=1, per_object=1)
    lessons = ClicknetLessons(network, network, [sample(1)], [sample(2)])
    assert finetune(lessons, plan, tmp_path, lambda *_: None).step == 1


def test_the_start_is_not_changed_and_time_ends_a_training(network: ClickNetwork, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    lessons = ClicknetLessons(network, network, [sample(1)], [sample(2)])
    course = finetune(lessons, Plan(seconds=1e-6), tmp_path, lambda *_: None)
    assert course.step == 0
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    with pytest.raises(ValueError, match="no objects"):
        finetune(ClicknetLessons(network, network, [], [sample(2)]), Plan(seconds=1.0), tmp_path, lambda *_: None)


class Rehearsed(Curriculum[nn.Linear, int]):
    """One weight, and a validation that says what it was told to."""

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False), (), ())
        self.values = iter(values)
        self.seen: list[float] = []

    def prepare(self, per_object: int, seed: int, until: float, report: Report) -> None:
        self.pool, self.exam = [0], [0]

    def pupil(self, of: nn.Linear) -> nn.Linear:
        return copy.deepcopy(of)

    def weights(self, of: nn.Linear) -> Weights:
        return dict(of.named_parameters())

    def lesson(self, pupil: nn.Linear, chosen: Chosen, rng: np.random.Generator) -> torch.Tensor:
        return pupil.weight.sum()

    def reminder(self, pupil: nn.Linear, frozen: nn.Linear, chosen: Chosen, rng: np.random.Generator) -> torch.Tensor:
        return pupil.weight.sum()

    def examine(self, pupil: nn.Linear) -> tuple[float, float]:
        self.seen.append(float(pupil.weight.detach()))
        value = next(self.values)
        return value, value


@pytest.mark.parametrize(
    ("values", "kept", "exams"),
    [
        ((0.5, 0.7, 0.695, 0.65, 0.6, 0.6), 2, 6),  # level with the best: it has learned more
        ((0.5, 0.7, 0.695, 0.688, 0.6, 0.6), 2, 6),  # each but a little worse than the one before: not without end
        ((0.7, 0.6, 0.6, 0.6, 0.6, 0.6), 0, 5),
        ((0.5, 0.6, 0.7, 0.8, 0.9, 0.9), 5, 6),
    ],
)
def test_the_last_decoder_that_is_level_with_the_best_is_kept(
    values: Sequence[float], kept: int, exams: int, tmp_path: Path
) -> None:
    curriculum = Rehearsed(values)
    course = finetune(curriculum, Plan(seconds=600, batch=1, steps=5, exams=5), tmp_path, lambda *_: None)
    assert len(curriculum.seen) == exams
    assert float(course.best["weight"]) == pytest.approx(curriculum.seen[kept])
    assert course.best_value == max(values)


def test_clicks_go_where_the_mask_is_wrong(network: ClickNetwork) -> None:
    views = list(view_pool(network.encoder, [sample(1)], 1, 0, augment=False))
    exercise = practice.begin(views, np.random.default_rng(0), boxes=0.0)
    assert exercise.prompts().points.shape == (1, 1, 3)
    practice.click(exercise, None)
    (column, row, sign) = exercise.points[0][0]
    assert sign == 1.0
    assert views[0].mask[int(row), int(column)]
    assert exercise.ambiguous.tolist() == [True]
    exercise.previous = torch.ones_like(exercise.previous)
    practice.click(exercise, np.random.default_rng(0))
    (column, row, sign) = exercise.points[0][1]
    assert sign == 0.0
    assert not views[0].mask[int(row), int(column)]
    assert exercise.ambiguous.tolist() == [False]


def test_a_box_is_a_first_prompt_of_its_own(network: ClickNetwork) -> None:
    views = list(view_pool(network.encoder, [sample(1)], 1, 0, augment=False))
    exercise = practice.begin(views, np.random.default_rng(0), boxes=1.0)
    practice.click(exercise, None)
    assert exercise.points == [[]]
    assert not exercise.ambiguous.any()
    inside = exercise.box[0, 0].numpy() > 0
    assert inside[views[0].mask].all()
