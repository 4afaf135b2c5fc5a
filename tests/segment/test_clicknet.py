from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from skimage import data as pictures

from maskloop.segment.card import ModelError, read_card, write_card
from maskloop.segment.catalog import Catalog
from maskloop.segment.clicknet import ClickNet, Way, encoder_hash
from maskloop.segment.clicknet_net import AHEAD, DOUBT, ClickNetwork, network_of
from maskloop.segment.clicknet_state import State
from maskloop.segment.clicknet_view import Window
from maskloop.segment.familiarity import signature
from maskloop.segment.memory import ANSWERS, FEATURES, Memory
from maskloop.segment.prompt import Box, Mask, Point, Prompt, Scribble
from maskloop.segment.segmenter import Embedding, Prediction, Segmenter
from maskloop.settings import default_models_dir

SHIPPED = default_models_dir() / "clicknet"


@pytest.fixture(scope="module")
def model() -> ClickNet:
    loaded = Catalog(SHIPPED.parent).load("clicknet", "cpu", 1)
    assert isinstance(loaded, ClickNet)
    return loaded


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, Mask]:
    """A red disc and a red square on grass, and the disc."""
    image = np.full((200, 300, 3), (60, 140, 60), np.uint8)
    image += np.random.default_rng(0).integers(0, 20, image.shape).astype(np.uint8)
    rows, columns = np.mgrid[:200, :300]
    disc = (rows - 100) ** 2 + (columns - 90) ** 2 < 50**2
    image[disc] = (200, 40, 40)
    image[60:140, 200:260] = (200, 40, 40)
    return image, disc


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_it_is_a_segmenter(model: ClickNet) -> None:
    assert isinstance(model, Segmenter)
    assert len(model.encoder) == 16


def test_one_click_finds_an_object_and_not_its_twin(model: ClickNet, scene: tuple[np.ndarray, Mask]) -> None:
    image, disc = scene
    answer = model.decode(model.encode(image), Prompt((Point(90, 100),)))
    assert answer.mask.shape == disc.shape
    assert iou(answer.mask, disc) > 0.8
    assert 0 <= answer.score <= 1


@pytest.mark.parametrize("kind", ["box", "scribble", "prior"])
def test_every_kind_of_prompt_alone(model: ClickNet, scene: tuple[np.ndarray, Mask], kind: str) -> None:
    image, disc = scene
    stroke = np.zeros_like(disc)
    stroke[95:105, 60:120] = True
    prompt = {
        "box": Prompt(box=Box(40, 50, 140, 150)),
        "scribble": Prompt(scribbles=(Scribble(stroke),)),
        "prior": Prompt(prior=disc),
    }[kind]
    assert iou(model.decode(model.encode(image), prompt).mask, disc) > 0.6


def test_a_box_means_the_same_in_the_mirror(model: ClickNet) -> None:
    image = np.ascontiguousarray(pictures.astronaut()[:320, :288])
    size, box = image.shape[1], Box(40, 30, 250, 290)
    answer = model.decode(model.encode(image), Prompt(box=box))
    turned = Prompt(box=Box(size - box.x1, box.y0, size - box.x0, box.y1))
    mirror = model.decode(model.encode(np.ascontiguousarray(image[:, ::-1])), turned)
    assert answer.mask.any()
    assert (mirror.mask[:, ::-1] ^ answer.mask).sum() < 0.002 * answer.mask.sum()
    assert mirror.score == pytest.approx(answer.score, abs=1e-3)


def test_an_answer_depends_on_the_prompt_alone(model: ClickNet, scene: tuple[np.ndarray, Mask]) -> None:
    """Whatever was asked before, and whether it is still in memory."""
    image, _ = scene
    points = (Point(90, 100), Point(230, 100, False), Point(110, 120))
    embedding = model.encode(image)
    for count in (1, 2, 3):
        stepwise = model.decode(embedding, Prompt(points[:count]))
    model.decode(embedding, Prompt(box=Box(190, 50, 270, 150)))
    at_once = model.decode(model.encode(image), Prompt(points))
    assert np.array_equal(stepwise.mask, at_once.mask)
    assert stepwise.score == at_once.score


def test_what_is_remembered_is_bounded_for_all_images_together(
    model: ClickNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, features = Memory(2_000_000), Memory(8_000_000)
    monkeypatch.setattr("maskloop.segment.clicknet.ANSWERS", answers)
    monkeypatch.setattr("maskloop.segment.clicknet.FEATURES", features)
    points = tuple(Point(5 + 9 * k, 5 + 7 * k, k % 3 != 2) for k in range(4))
    scenes = [np.random.default_rng(n).integers(0, 255, (200, 300, 3), np.uint8) for n in range(6)]
    embeddings = [model.encode(pixels) for pixels in scenes]
    for embedding in embeddings:
        for count in range(1, 5):
            model.decode(embedding, Prompt(points[:count]))
    assert 1_000_000 < answers.nbytes <= 2_000_000
    assert 4_000_000 < features.nbytes <= 8_000_000
    assert 0 < ANSWERS._limit + FEATURES._limit <= 150_000_000


def test_an_answer_is_the_same_when_nothing_is_remembered(
    model: ClickNet, scene: tuple[np.ndarray, Mask], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = model.encode(scene[0])
    prompt = Prompt((Point(90, 100), Point(230, 100, False), Point(110, 120)), box=Box(40, 50, 140, 150))
    remembered = [model.decode(embedding, prompt).mask for _ in range(2)][1]
    memory = Memory(1000)
    monkeypatch.setattr("maskloop.segment.clicknet.ANSWERS", memory)
    monkeypatch.setattr("maskloop.segment.clicknet.FEATURES", memory)
    assert np.array_equal(model.decode(embedding, prompt).mask, remembered)
    assert memory.nbytes == 0


def test_a_thousand_clicks_are_answered(model: ClickNet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def answered(embedding: Embedding, prompt: Prompt, earlier: State | None) -> Way[State]:
        asked.append(len(prompt.points))
        yield from ()
        return State(np.ones((65, 65), np.float32), Window(0, 0, 64, 64), 0.5)

    monkeypatch.setattr(model, "_answered", answered)
    embedding = model.encode(np.zeros((64, 64, 3), np.uint8))
    model.decode(embedding, Prompt(tuple(Point(n % 64, n // 64) for n in range(1200))))
    assert asked == list(range(1, 1201))


def test_what_only_says_where_the_object_is_not_gets_an_empty_mask(
    model: ClickNet, scene: tuple[np.ndarray, Mask]
) -> None:
    image, disc = scene
    embedding, no = model.encode(image), Point(230, 100, False)
    for prompt in (Prompt((no,)), Prompt((no,), scribbles=(Scribble(disc, False),)), Prompt(prior=disc & ~disc)):
        answer = model.decode(embedding, prompt)
        assert not answer.mask.any()
        assert answer.score == 0
    assert iou(model.decode(embedding, Prompt((no, Point(90, 100)))).mask, disc) > 0.8


def test_every_click_is_honoured(model: ClickNet) -> None:
    image = pictures.astronaut()
    embedding = model.encode(image)
    rng = np.random.default_rng(5)
    points = tuple(
        Point(float(x), float(y), bool(sign))
        for x, y, sign in zip(rng.uniform(0, 512, 8), rng.uniform(0, 512, 8), rng.integers(0, 2, 8), strict=True)
    )
    for count in (1, 4, 8):
        mask = model.decode(embedding, Prompt(points[:count])).mask
        for point in points[:count]:
            assert bool(mask[int(point.y), int(point.x)]) == point.positive


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (300, 2), (17, 16), (33, 900), (2200, 60)])
def test_any_size(model: ClickNet, size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 255, (*size, 3)).astype(np.uint8)
    embedding = model.encode(image)
    point = Point(size[1] / 2, size[0] / 2)
    for prompt in (Prompt((point,)), Prompt(box=Box(0, 0, size[1], size[0])), Prompt(prior=np.ones(size, bool))):
        assert model.decode(embedding, prompt).mask.shape == size


def test_the_embedding_is_small_and_typed(model: ClickNet) -> None:
    embedding = model.encode(np.zeros((1000, 1000, 3), np.uint8))
    assert embedding.size == (1000, 1000)
    assert embedding.encoder == model.encoder
    assert {a.dtype.name for a in embedding.arrays.values()} == {"uint8", "float16"}
    assert embedding.nbytes < 8_000_000


def test_a_closer_look_at_a_part_sees_what_a_look_at_a_picture_of_it_would(model: ClickNet) -> None:
    image = pictures.astronaut()[:360, :480]
    part = image[100:300, 40:360]
    seen, alone = model.closer(model.encode(image), Box(40, 100, 360, 300)), model.encode(np.ascontiguousarray(part))
    assert set(seen) == set(alone.arrays) - {"pixels"}
    for name, values in seen.items():
        assert values.dtype == np.float16
        np.testing.assert_allclose(values.astype(np.float32), alone.arrays[name].astype(np.float32), atol=0.05)


def test_a_closer_look_at_a_large_image_stays_inside_it(model: ClickNet) -> None:
    embedding = model.encode(np.zeros((3001, 1201, 3), np.uint8))
    assert model.closer(embedding, Box(600, 1500, 1201, 3001))["f2"].shape[1:] == (129, 49)


def test_a_foreign_embedding_and_an_empty_prompt_are_refused(model: ClickNet, scene: tuple[np.ndarray, Mask]) -> None:
    embedding = model.encode(scene[0])
    with pytest.raises(ValueError, match="empty prompt"):
        model.decode(embedding, Prompt())
    other = ClickNet(ClickNetwork(), "other")
    with pytest.raises(ValueError, match="encoder"):
        other.decode(embedding, Prompt((Point(1, 1),)))


@pytest.mark.parametrize("sure", [True, False])
def test_of_two_decoders_the_one_that_is_surer_answers(
    model: ClickNet, scene: tuple[np.ndarray, Mask], sure: bool
) -> None:
    network = ClickNetwork(learned=True)
    tensors = model.network.state_dict()
    own = {name.replace("decoder.", "learned."): value.clone() for name, value in tensors.items() if "decoder." in name}
    own["learned.masks.bias"] += 100.0
    own["learned.judge.2.bias"] += 50.0 if sure else -50.0
    network.load_state_dict({**tensors, **own})
    prompt = Prompt((Point(90, 100),))
    answer = ClickNet(network, "two").decode(model.encode(scene[0]), prompt)
    first = model.decode(model.encode(scene[0]), prompt)
    assert np.array_equal(answer.mask, first.mask) != sure
    assert (answer.mask.sum() > 2 * first.mask.sum()) == sure


def test_what_was_learned_answers_on_images_like_those_it_was_learned_on_and_nowhere_else(model: ClickNet) -> None:
    rng = np.random.default_rng(0)

    def drawn(level: int) -> np.ndarray:
        pixels = np.full((120, 160, 3), (level, level, 90), np.uint8)
        pixels[30:80, 40:100] = (200, 60, 40)
        return np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)

    known = torch.from_numpy(np.stack([signature(model.encode(drawn(level))) for level in range(90, 130, 10)]))
    tensors = model.network.state_dict()
    own = {name.replace("decoder.", "learned."): value.clone() for name, value in tensors.items() if "decoder." in name}
    own["learned.masks.bias"] += 100.0
    own["learned.judge.2.bias"] += 50.0
    two = ClickNet(network_of({**tensors, **own, "known": known}), "two")
    prompt = Prompt((Point(70, 55),))
    rows, columns = np.mgrid[:120, :160]
    disc = np.where(((rows - 60) ** 2 + (columns - 80) ** 2 < 900)[..., None], (20, 90, 20), 240).astype(np.uint8)
    like, unlike = model.encode(drawn(105)), model.encode(disc)
    assert two.decode(like, prompt).mask.mean() > 0.9
    assert np.array_equal(two.decode(unlike, prompt).mask, model.decode(unlike, prompt).mask)
    both = two.decode_all([(like, prompt), (unlike, prompt)])
    assert [one.mask.mean() > 0.9 for one in both if isinstance(one, Prediction)] == [True, False]


def test_what_was_learned_is_preferred_for_the_labels_it_learned(
    model: ClickNet, scene: tuple[np.ndarray, Mask], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = model.network.state_dict()
    own = {name.replace("decoder.", "learned."): value.clone() for name, value in tensors.items() if "decoder." in name}
    two = ClickNet(network_of({**tensors, **own}), "two", labels=("cup",))
    asked, decode = [], two.network.decode

    def told(features: Any, prompts: Any, ahead: float | None) -> Any:
        asked.append(ahead)
        return decode(features, prompts, ahead)

    monkeypatch.setattr(two.network, "decode", told)
    for label in ("cup", "plate", None):
        two.decode(model.encode(scene[0]), Prompt((Point(90, 100),), label=label))
    assert list(dict.fromkeys(asked)) == [AHEAD, -DOUBT]
    assert asked.count(-DOUBT) == 2 * asked.count(AHEAD)


def test_the_encoder_hash_ignores_the_decoder() -> None:
    network = ClickNetwork()
    before = encoder_hash(network)
    with torch.no_grad():
        next(network.decoder.parameters()).add_(1)
    assert encoder_hash(network) == before
    with torch.no_grad():
        next(network.encoder.parameters()).add_(1)
    assert encoder_hash(network) != before


def test_a_missing_or_wrong_weights_file_is_named(tmp_path) -> None:
    card = read_card(SHIPPED)
    write_card(tmp_path, card)
    with pytest.raises(ModelError, match=r"weights\.safetensors is missing"):
        Catalog(tmp_path).load(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="sha256"):
        Catalog(tmp_path).load(tmp_path)


def test_a_version_with_a_decoder_only_uses_its_base(tmp_path, model: ClickNet) -> None:
    from dataclasses import replace

    from maskloop.segment.card import sha256
    from maskloop.segment.catalog import Catalog

    tensors = load_file(SHIPPED / "weights.safetensors")
    save_file({n: t for n, t in tensors.items() if n.startswith("decoder.")}, tmp_path / "decoder.safetensors")
    digest = sha256(tmp_path / "decoder.safetensors")
    card = replace(
        read_card(SHIPPED),
        name="learned",
        base="clicknet",
        files={"decoder.safetensors": digest},
    )
    write_card(tmp_path, card)
    learned = Catalog(SHIPPED.parent).load(tmp_path, device="cpu", threads=1)
    assert learned.encoder == model.encoder
    assert learned.name == "learned"
