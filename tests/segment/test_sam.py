from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", reason="the SAM family needs the extra [sam]")

from maskloop.segment.card import Card, ModelError, write_card  # noqa: E402
from maskloop.segment.catalog import Catalog  # noqa: E402
from maskloop.segment.embeddings import EmbeddingCache, pack, unpack  # noqa: E402
from maskloop.segment.memory import Memory  # noqa: E402
from maskloop.segment.postprocess import clean  # noqa: E402
from maskloop.segment.prompt import Box, Image, Mask, Point, Prompt, Scribble  # noqa: E402
from maskloop.segment.sam import DECODER, SamSegmenter  # noqa: E402
from maskloop.segment.segmenter import Embedding, Prediction  # noqa: E402
from tests.segment.checkpoints import KINDS, save_checkpoint, save_model  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        save_model(root, kind)
    return root


def load(models: Path, kind: str) -> SamSegmenter:
    segmenter = Catalog(models).load(kind.replace("_", "-"), device="cpu")
    assert isinstance(segmenter, SamSegmenter)
    return segmenter


@pytest.fixture(params=KINDS)
def sam(models: Path, request: pytest.FixtureRequest) -> SamSegmenter:
    return load(models, request.param)


def picture(height: int = 90, width: int = 150, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def square() -> Mask:
    mask = np.zeros((90, 150), bool)
    mask[20:60, 30:90] = True
    return mask


PROMPTS = {
    "click": Prompt((Point(40, 30),)),
    "clicks": Prompt((Point(40, 30), Point(100, 70, False), Point(60, 20))),
    "box": Prompt(box=Box(20, 10, 90, 80)),
    "box and click": Prompt((Point(40, 30),), box=Box(20, 10, 90, 80)),
    "scribble": Prompt(scribbles=(Scribble(square()),)),
    "scribbles": Prompt(scribbles=(Scribble(square()), Scribble(~square(), False))),
    "prior": Prompt(prior=square()),
    "prior and click": Prompt((Point(100, 70),), prior=square()),
    "everything": Prompt((Point(40, 30),), Box(20, 10, 90, 80), (Scribble(square()),), square()),
}


def test_every_prompt_is_answered_at_the_image_s_size(sam: SamSegmenter) -> None:
    embedding, upright = sam.encode(picture()), sam.encode(picture(300, 200))
    answers = [sam.decode(embedding, prompt) for prompt in PROMPTS.values()]
    assert {answer.mask.shape for answer in answers} == {(90, 150)}
    assert sam.decode(upright, PROMPTS["box and click"]).mask.shape == (300, 200)
    assert all(answer.mask.dtype == bool and 0 <= answer.score <= 1 for answer in answers)


def test_what_the_cache_keeps_is_all_a_click_needs(sam: SamSegmenter) -> None:
    embedding = sam.encode(picture())
    assert {array.dtype for array in embedding.arrays.values()} == {np.dtype(np.float16)}
    assert embedding.size == (90, 150)
    for prompt in (PROMPTS["clicks"], PROMPTS["everything"]):
        stored = unpack(pack(embedding), sam.encoder)
        np.testing.assert_array_equal(sam.decode(embedding, prompt).mask, sam.decode(stored, prompt).mask)


def test_decoding_a_cached_embedding_is_the_whole_network_s_answer(sam: SamSegmenter) -> None:
    """Against transformers' own forward from pixels, no cache, no half precision."""
    image = picture()
    frame = sam.frame((90, 150))
    places, labels = frame.points([Point(40, 30)])
    with torch.inference_mode():
        answer = sam.net.model(
            pixel_values=torch.from_numpy(sam.net.pixels(image))[None],
            input_points=torch.from_numpy(places)[None, None],
            input_labels=torch.from_numpy(labels)[None, None],
            multimask_output=True,
        )
        logits, scores = sam.net(
            sam.features(sam.encode(image)),
            points=torch.from_numpy(places)[None],
            labels=torch.from_numpy(labels)[None],
            several=True,
        )
    assert logits.shape == (1, 3, sam.net.low, sam.net.low)
    torch.testing.assert_close(scores, answer.iou_scores[:, 0], atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(logits, answer.pred_masks[:, 0], atol=2e-2, rtol=5e-2)


def test_the_one_of_several_masks_with_the_best_predicted_iou_is_taken(sam: SamSegmenter) -> None:
    embedding, prompt = sam.encode(picture()), PROMPTS["click"]
    frame = sam.frame(embedding.size)
    places, labels = frame.points(list(prompt.points))
    with torch.inference_mode():
        logits, scores = sam.net(
            sam.features(embedding),
            points=torch.from_numpy(places)[None],
            labels=torch.from_numpy(labels)[None],
            several=True,
        )
    best = int(scores[0].argmax())
    expected = frame.full(logits[0, best].to(torch.float16).float().numpy())
    prediction = sam.decode(embedding, prompt)
    np.testing.assert_array_equal(prediction.mask, clean(expected, prompt))
    assert prediction.score == pytest.approx(min(1.0, max(0.0, float(scores[0, best]))))


def test_an_answer_does_not_depend_on_what_was_asked_before(models: Path, sam: SamSegmenter) -> None:
    embedding = sam.encode(picture())
    clicks = PROMPTS["clicks"].points
    step_by_step = [sam.decode(embedding, Prompt(clicks[: n + 1])).mask for n in range(3)][-1]
    fresh = unpack(pack(embedding), sam.encoder)
    np.testing.assert_array_equal(step_by_step, sam.decode(fresh, Prompt(clicks)).mask)
    sam.decode(fresh, PROMPTS["prior"])
    np.testing.assert_array_equal(step_by_step, sam.decode(fresh, Prompt(clicks)).mask)


def test_the_answer_before_is_fed_back(sam: SamSegmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []
    forward = sam.net.forward

    def spy(features: object, **given: object) -> object:
        calls.append(given)
        return forward(features, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(sam.net, "forward", spy)
    embedding = sam.encode(picture())
    sam.decode(embedding, PROMPTS["clicks"])
    assert [call["masks"] is not None for call in calls] == [False, True, True]
    assert [call["several"] for call in calls] == [True, False, False]
    sam.decode(embedding, Prompt((*PROMPTS["clicks"].points, Point(5, 5, False))))
    assert len(calls) == 4, "earlier clicks are remembered, only the new one is decoded"


def test_what_is_remembered_is_bounded_for_all_images_together(
    sam: SamSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 2 * sam.net.low**2
    memory = Memory(3 * size)
    monkeypatch.setattr("maskloop.segment.sam.ANSWERS", memory)
    embeddings = [sam.encode(picture(seed=seed)) for seed in range(4)]
    answers = [sam.decode(embedding, PROMPTS["clicks"]).mask for embedding in embeddings]
    assert memory.nbytes == 3 * size
    assert np.array_equal(sam.decode(embeddings[0], PROMPTS["clicks"]).mask, answers[0])


def test_clicks_are_honoured_and_a_prompt_that_names_no_object_gets_an_empty_mask(sam: SamSegmenter) -> None:
    embedding = sam.encode(picture())
    for click in PROMPTS["clicks"].points:
        answer = sam.decode(embedding, PROMPTS["clicks"]).mask
        assert answer[int(click.y), int(click.x)] == click.positive
    for prompt in (Prompt((Point(4, 4, False),)), Prompt(prior=np.zeros((90, 150), bool))):
        assert not sam.decode(embedding, prompt).mask.any()
    with pytest.raises(ValueError, match="prompt is empty"):
        sam.decode(embedding, Prompt())
    with pytest.raises(ValueError, match="encoder"):
        sam.decode(type(embedding)(embedding.arrays, embedding.size, "other"), PROMPTS["click"])


def test_a_decoder_learns_on_cached_embeddings_and_the_encoder_stays(
    models: Path, tmp_path: Path, sam: SamSegmenter
) -> None:
    from safetensors.torch import save_file

    cache = EmbeddingCache(1 << 24)
    embedding = cache.get("content", sam, picture)
    frame, truth = sam.frame(embedding.size), square()
    target = torch.from_numpy(frame.shrunk(truth))[None, None]
    places, labels = frame.points([Point(60, 40)])
    features = sam.features(embedding)
    parameters = dict(sam.net.decoder())
    before = {name: value.clone() for name, value in sam.net.model.state_dict().items()}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    optimiser = torch.optim.AdamW(parameters.values(), lr=1e-2)
    losses = []
    for _ in range(4):
        logits, _ = sam.net(features, points=torch.from_numpy(places)[None], labels=torch.from_numpy(labels)[None])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, value in sam.net.model.state_dict().items():
        if name not in parameters and not name.startswith("prompt_encoder.shared"):
            torch.testing.assert_close(value, before[name], msg=name)

    folder = tmp_path / "retrained"
    folder.mkdir()
    save_file({name: parameter.detach().contiguous() for name, parameter in parameters.items()}, folder / DECODER)
    digest = hashlib.sha256((folder / DECODER).read_bytes()).hexdigest()
    base = sam.name
    write_card(folder, Card("retrained", "sam", "Apache-2.0", "tiny", base=base, files={DECODER: digest}))
    retrained = Catalog(models).load(folder, device="cpu")
    assert retrained.encoder == sam.encoder
    assert retrained.net.model.vision_encoder is sam.net.model.vision_encoder, "the encoder is in memory once"  # type: ignore[attr-defined]
    again = cache.get("content", retrained, lambda: pytest.fail("encoded again"))
    with torch.inference_mode():
        ours, _ = sam.net(features, points=torch.from_numpy(places)[None], labels=torch.from_numpy(labels)[None])
        theirs, _ = retrained.net(  # type: ignore[attr-defined]
            features, points=torch.from_numpy(places)[None], labels=torch.from_numpy(labels)[None]
        )
    torch.testing.assert_close(ours, theirs)
    assert retrained.decode(again, PROMPTS["click"]).mask.shape == (90, 150)


def test_a_twin_has_a_decoder_of_its_own(sam: SamSegmenter) -> None:
    twin = sam.net.twin()
    assert twin.model.vision_encoder is sam.net.model.vision_encoder
    ours, theirs = dict(sam.net.decoder()), dict(twin.decoder())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not {id(value) for value in ours.values()} & {id(value) for value in theirs.values()}


def test_an_embedding_s_maps_are_channels_by_rows_by_columns_and_its_tokens_are_not_taken_for_one(models: Path) -> None:
    sam = load(models, "sam_hq")
    embedding = sam.encode(picture())
    assert embedding.arrays["image"].shape == (32, 8, 8)
    assert embedding.arrays["early"].shape == (64, 16)
    arrays = {**embedding.arrays, "early": embedding.arrays["early"].reshape(8, 8, 16)}
    kept_before = Embedding(arrays, embedding.size, embedding.encoder)
    ours, theirs = (sam.decode(one, PROMPTS["clicks"]).mask for one in (embedding, kept_before))
    np.testing.assert_array_equal(ours, theirs)


def test_a_decoder_of_another_architecture_is_refused(models: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"mask_decoder.x": torch.zeros(1)}, tmp_path / DECODER)
    write_card(tmp_path, Card("x", "sam", "MIT", "d", base="sam2", files={DECODER: ""}))
    with pytest.raises(ModelError, match="does not fit its base"):
        Catalog(models).load(tmp_path, device="cpu")


def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_model(tmp_path, "sam2")
    tensors = load_file(folder / "model.safetensors")
    del tensors["mask_decoder.iou_token.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    write_card(folder, Card("sam2", "sam", "MIT", "d", files={"model.safetensors": ""}))
    with pytest.raises(ModelError, match=r"mask_decoder\.iou_token\.weight"):
        Catalog(tmp_path).load("sam2", device="cpu")


@pytest.mark.parametrize(("config", "says"), [("{", "cannot be read"), ('{"model_type": "bert"}', "is none of")])
def test_an_unknown_architecture_is_refused(tmp_path: Path, config: str, says: str) -> None:
    folder = save_model(tmp_path, "sam")
    (folder / "config.json").write_text(config)
    with pytest.raises(ModelError, match=says):
        Catalog(tmp_path).load("sam", device="cpu")


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "sam", "sam")
    torch.save({}, tmp_path / "sam" / "pytorch_model.bin")
    (tmp_path / "sam" / "model.safetensors").unlink()
    write_card(tmp_path / "sam", Card("sam", "sam", "MIT", "d", files={"config.json": ""}))
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        Catalog(tmp_path).load("sam", device="cpu")


def test_torchvision_is_never_imported(sam: SamSegmenter) -> None:
    sam.decode(sam.encode(picture()), PROMPTS["click"])
    assert "torchvision" not in sys.modules


def test_prompts_are_answered_together_as_alone_in_fewer_passes(
    sam: SamSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings = [sam.encode(picture()), sam.encode(picture(seed=1)), sam.encode(picture(300, 200, 2))]
    asked = [(embedding, prompt) for embedding in embeddings[:2] for prompt in PROMPTS.values()]
    asked.append((embeddings[2], PROMPTS["click"]))
    sizes: list[int] = []
    hook = sam.net.register_forward_hook(lambda net, given, made: sizes.append(len(made[0])))
    memory = Memory(10**7)
    monkeypatch.setattr("maskloop.segment.sam.ANSWERS", memory)
    together = sam.decode_all([*asked, (embeddings[0], Prompt())])
    assert all(kept.value.logits.flags.owndata for kept in memory._kept.values())  # not a part that keeps all of a pass
    assert 2 * len(sizes) < sum(sizes)
    monkeypatch.setattr("maskloop.segment.sam.ANSWERS", Memory(10**7))
    alone = [sam.decode(embedding, prompt) for embedding, prompt in asked]
    hook.remove()
    assert isinstance(together.pop(), ValueError)
    for many, one in zip(together, alone, strict=True):
        assert isinstance(many, Prediction)
        assert (many.mask != one.mask).mean() < 0.01
        assert many.score == pytest.approx(one.score, abs=1e-3)
