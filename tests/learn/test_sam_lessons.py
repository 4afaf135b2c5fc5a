from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", reason="the SAM family needs the extra [sam]")

from maskloop.learn import sam_practice as practice  # noqa: E402
from maskloop.learn.finetune import finetune  # noqa: E402
from maskloop.learn.sam_lessons import SamLessons, plan  # noqa: E402
from maskloop.learn.samples import Sample, Target  # noqa: E402
from maskloop.segment.catalog import Catalog  # noqa: E402
from maskloop.segment.prompt import Mask, Point, Prompt  # noqa: E402
from maskloop.segment.sam import SamSegmenter  # noqa: E402
from maskloop.segment.segmenter import Embedding  # noqa: E402
from maskloop.segment.together import alone  # noqa: E402
from tests.segment.checkpoints import save_model  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=["sam", "sam_hq", "sam2"])
def sam(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> SamSegmenter:
    root = tmp_path_factory.mktemp("models")
    save_model(root, request.param, "tiny", lively=True)
    segmenter = Catalog(root).load("tiny", device="cpu")
    assert isinstance(segmenter, SamSegmenter)
    return segmenter


def disc(x: int, y: int, radius: int, size: tuple[int, int] = (96, 128)) -> Mask:
    rows, columns = np.mgrid[: size[0], : size[1]]
    mask: Mask = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    return mask


def sample(seed: int) -> Sample:
    """A bright disc on a noisy ground."""
    rng = np.random.default_rng(seed)
    masks = [disc(rng.integers(30, 98), rng.integers(30, 66), rng.integers(22, 30))]
    pixels = rng.normal(70, 10, (96, 128, 3))
    for mask in masks:
        pixels[mask] += 110
    targets = tuple(Target(seed, f"r{k}", "Disc", (96, 128), np.packbits(m).tobytes()) for k, m in enumerate(masks))
    return Sample(f"{seed}", seed, "x", np.clip(pixels, 0, 255).astype(np.uint8), targets)


class Cache:
    """Embeddings by content; counts how often the encoder ran."""

    def __init__(self, segmenter: SamSegmenter) -> None:
        self.segmenter = segmenter
        self.kept: dict[str, Embedding] = {}
        self.encoded = 0

    def __call__(self, sample: Sample) -> Embedding:
        if sample.content not in self.kept:
            self.kept[sample.content] = self.segmenter.encode(sample.pixels)
            self.encoded += 1
        return self.kept[sample.content]


def lessons(sam: SamSegmenter, cache: Cache | None = None, first: int = 1) -> SamLessons:
    train, validation = [sample(k) for k in range(first, first + 5)], [sample(k) for k in (91, 92)]
    return SamLessons(sam, sam, train, validation, cache or Cache(sam))


def test_a_decoder_learns_the_annotator_s_objects_and_nothing_else_changes(sam: SamSegmenter, tmp_path: Path) -> None:
    cache = Cache(sam)
    before = {name: value.clone() for name, value in sam.net.state_dict().items()}
    hard = replace(plan(600, 1), rate=6e-3, steps=60, exams=3)
    course = finetune(lessons(sam, cache), hard, tmp_path, lambda *_: None)
    assert cache.encoded == 7, "every image is encoded once"
    assert all(torch.equal(before[name], value) for name, value in sam.net.state_dict().items())
    (_, _, *first), (_, early, *_), *_, (step, late, *_) = course.curve
    assert step == 60
    assert late < early
    assert course.best_value > sum(first) / 2 + 0.2
    names = {name for name, _ in sam.net.decoder()}
    assert set(course.best) == names
    assert not any("vision_encoder" in name or "conv_s" in name for name in names)
    changed = {name for name in names if not torch.equal(course.best[name], before[f"model.{name}"])}
    parts = {"iou_prediction_head", "transformer", "output_hypernetworks_mlps", "mask_embed"}
    assert all(any(part in name for name in changed) for part in parts)


class Killed(Exception):
    pass


def test_a_training_that_was_killed_goes_on_from_its_checkpoint(
    sam: SamSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskloop.learn.finetune.CHECKPOINT_SECONDS", 0.0)
    short = replace(plan(600, 1), steps=4, exams=2, batch=2)

    def stop(progress: float, note: str) -> None:
        if note == "step 3":
            raise Killed

    with pytest.raises(Killed):
        finetune(lessons(sam), short, tmp_path, stop)
    notes: list[str] = []
    course = finetune(lessons(sam), short, tmp_path, lambda _, note: notes.append(note))
    assert [note for note in notes if note.startswith("step")] == ["step 3", "step 4"]
    assert [row[0] for row in course.curve] == [0, 2, 4]
    notes.clear()
    finetune(lessons(sam, first=20), short, tmp_path, lambda _, note: notes.append(note))
    assert "step 1" in notes, "a checkpoint of other images is not taken up"


def test_where_the_annotator_says_nothing_the_decoder_is_held_to_the_base(sam: SamSegmenter) -> None:
    held = lessons(sam)
    held.prepare(1, 0, float("inf"), lambda *_: None)
    pupil, frozen = held.pupil(sam.net), held.pupil(sam.net)
    chosen = np.array([0, 1, 2])
    same = [held.reminder(pupil, frozen, chosen, np.random.default_rng(k)).item() for k in range(4)]
    assert same == pytest.approx([0.0] * 4, abs=1e-5)
    with torch.no_grad():
        for value in held.weights(pupil).values():
            value.add_(0.05 * torch.randn_like(value))
    apart = held.reminder(pupil, frozen, chosen, np.random.default_rng(0))
    assert apart.item() > 1e-3
    apart.backward()
    assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in held.weights(pupil).values())
    assert all(value.grad is None for value in held.weights(frozen).values())


def test_time_that_is_over_still_leaves_something_to_learn_from(sam: SamSegmenter, tmp_path: Path) -> None:
    cache = Cache(sam)
    course = finetune(lessons(sam, cache), plan(1e-6, 0), tmp_path, lambda *_: None)
    assert course.step == 0
    assert cache.encoded == 4, "three to train on, one to judge by"


def test_more_images_than_memory_holds_are_drawn_from_anew_in_every_training(
    sam: SamSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskloop.learn.sam_lessons.MOST_BYTES", 0)
    seen = set()
    for seed in range(6):
        cache = Cache(sam)
        lessons(sam, cache).prepare(1, seed, float("inf"), lambda *_: None)
        assert cache.encoded == 2 + 3
        seen |= set(cache.kept)
    assert seen >= {"1", "2", "3", "4", "5"}


def test_clicks_are_those_of_an_annotator_who_is_served(sam: SamSegmenter) -> None:
    """Click for click the same answers as the segmenter's own, for the same clicks."""
    one = sample(3)
    embedding = sam.encode(one.pixels)
    scene = practice.scene(embedding.arrays, sam.frame(embedding.size), one.targets[0].mask)
    assert scene is not None
    exercise = practice.begin([scene], np.random.default_rng(0), boxes=0.0)
    cell = max(one.pixels.shape[:2]) / sam.net.low  # image pixels of a cell, where the image is padded
    across, down = (cell, cell) if sam.net.padded else (128 / sam.net.low, 96 / sam.net.low)
    points: tuple[Point, ...] = ()
    for count in (1, 2, 3):
        practice.click(exercise, None)
        assert exercise.one_click == (count == 1)
        with practice.serving(sam.net):
            logits, judged = practice.answer(sam.net, exercise)
        practice.feed_back(exercise, logits, judged)
        last = exercise.points[0][-1]
        assert last.positive or count > 1
        points += (Point(last.x * across, last.y * down, last.positive),)
        answer = alone(sam._answer(embedding, sam.frame(embedding.size), Prompt(points)), sam.answers)
        assert answer is not None
        assert exercise.previous is not None
        np.testing.assert_allclose(exercise.previous[0], answer.logits.astype(np.float32), atol=0.05, rtol=0.01)


def test_a_batch_begins_with_a_box_each_or_with_none(sam: SamSegmenter) -> None:
    many = lessons(sam)
    many.prepare(1, 0, float("inf"), lambda *_: None)
    exercise = practice.begin(many.pool[:3], np.random.default_rng(0), boxes=1.0)
    practice.click(exercise, None)
    assert exercise.points == [(), (), ()]
    assert exercise.boxes is not None
    for box, scene in zip(exercise.boxes, many.pool, strict=False):
        assert np.abs(box.numpy() - scene.box).max() <= (scene.box[2:] - scene.box[:2]).max() / practice.ROUGH
    with practice.serving(sam.net):
        practice.feed_back(exercise, *practice.answer(sam.net, exercise))
    practice.click(exercise, None)
    assert [len(points) for points in exercise.points] == [1, 1, 1]
    assert not exercise.one_click


def test_a_thread_that_vanishes_on_the_grid_is_not_taught(sam: SamSegmenter) -> None:
    embedding = sam.encode(sample(1).pixels)
    thin = np.zeros((96, 128), bool)
    thin[40, 20:90] = True
    assert practice.scene(embedding.arrays, sam.frame((96, 128)), thin) is None
