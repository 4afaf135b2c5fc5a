"""The closed loop for a project whose model is a SAM: a tiny one, with random weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", reason="the SAM family needs the extra [sam]")

from maskloop.jobs import promotions  # noqa: E402
from maskloop.jobs.compare import compare  # noqa: E402
from maskloop.jobs.handlers import build_workbench  # noqa: E402
from maskloop.jobs.material import embed, weights_of  # noqa: E402
from maskloop.jobs.proposals import Proposals  # noqa: E402
from maskloop.jobs.teaching import Taught, keep_weights  # noqa: E402
from maskloop.jobs.train import run_claimed  # noqa: E402
from maskloop.jobs.workbench import Timings, Workbench  # noqa: E402
from maskloop.labelstudio.images import LoadedImage  # noqa: E402
from maskloop.learn import report, sam_lessons  # noqa: E402
from maskloop.learn.samples import Sample, shrink  # noqa: E402
from maskloop.learn.versions import LIVE  # noqa: E402
from maskloop.ledger import Ledger, TrainingState  # noqa: E402
from maskloop.segment.card import ModelError, read_card  # noqa: E402
from maskloop.segment.catalog import Catalog  # noqa: E402
from maskloop.segment.prompt import Image  # noqa: E402
from maskloop.segment.sam import DECODER, SamSegmenter  # noqa: E402
from maskloop.segment.segmenter import Embedding  # noqa: E402
from maskloop.settings import Settings  # noqa: E402
from tests.jobs.learning_project import PROJECT, settings, submit  # noqa: E402
from tests.segment.checkpoints import save_model  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind in ("sam", "sam_hq", "sam2"):
        save_model(root, kind, lively=True)
    return root


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What encoders have seen, as it happens."""
    seen: list[str] = []
    encode = SamSegmenter.encode

    def spy(self: SamSegmenter, image: Image) -> Embedding:
        seen.append(f"{image.shape}{image.sum()}")
        return encode(self, image)

    monkeypatch.setattr(SamSegmenter, "encode", spy)
    return seen


def train(of: Settings, ledger: Ledger) -> tuple[TrainingState, str, str]:
    training = ledger.request_training(PROJECT, "Start Training")
    ledger.claim_training("me")
    state = run_claimed(of, training.id, "me")
    done = ledger.training(training.id)
    assert done is not None
    return state, done.version or "", done.note


@pytest.mark.slow
def test_what_is_submitted_is_learned_judged_and_served(
    tmp_path: Path, models: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Random weights have everything to learn: a test cannot wait for the pace that suits real ones.
    gentle = sam_lessons.plan
    monkeypatch.setattr(sam_lessons, "plan", lambda seconds, seed: replace(gentle(seconds, seed), rate=6e-3, steps=50))
    of = settings(tmp_path, model="sam2", models_dir=models, train_minutes=2.0)
    ledger = Ledger(of.ledger_url)
    submit(tmp_path, ledger, 12)
    bench = build_workbench(of)
    _, base = bench.segmenter(bench.base_version)
    for number in range(1, 13):  # opened by the annotator
        bench.embedding(bench.image(str(tmp_path / f"images/{number}.png"), number), base, Timings())
    assert len(encoded) == 12

    state, version, note = train(of, ledger)
    assert state is TrainingState.PROMOTED, note
    assert "better than the current version" in note
    assert len(encoded) == 12, "no image is encoded again"
    folder = bench.versions.folder(version)
    assert folder is not None
    card = read_card(folder)
    assert (card.family, card.base, list(card.files)) == ("sam", "sam2", [DECODER])
    assert not (folder / "model.safetensors").exists()
    numbers = report.read(folder)
    assert numbers["verdict"]["promote"]
    assert sum(len(images) for images in numbers["used"].values()) == 12

    assert bench.versions.current(PROJECT) == version, "a server that was there before sees it at its next request"
    assert json.loads((folder / LIVE).read_text()) == ["Disc"]
    proposals = Proposals(bench)
    images = [bench.image(str(tmp_path / f"images/{number}.png"), number) for number in range(1, 13)]
    assert sum(len(proposals.on_image(version, image)[0]) for image in images) >= 4
    answered, segmenter = bench.segmenter(version)
    assert answered == version
    assert segmenter.net.model.vision_encoder is base.net.model.vision_encoder  # type: ignore[attr-defined]
    changes, _, _ = compare(of, PROJECT, bench.base_version, version)
    assert {change.metric for change in changes if change.better}

    submit(tmp_path, ledger, 2, first=13)
    state, second, note = train(of, ledger)
    assert state in (TrainingState.PROMOTED, TrainingState.KEPT), note
    again = bench.versions.folder(second)
    assert again is not None
    assert report.read(again)["started_from"] == version
    assert read_card(again).base == "sam2"
    assert len(encoded) == 14, "only what is new"
    if state is TrainingState.KEPT:
        promotions.promote(of, ledger, bench.versions, PROJECT, second, "person")
    assert promotions.rollback(of, ledger, bench.versions, PROJECT) == version
    ledger.close()


@pytest.mark.parametrize("name", ["sam", "sam-hq", "sam2"])
def test_a_version_may_keep_the_weights_it_started_from(tmp_path: Path, models: Path, name: str) -> None:
    bench = build_workbench(settings(tmp_path, model=name, models_dir=models))
    start = Taught(bench.catalog.folder(name), bench.catalog.load(name, device="cpu"))
    assert isinstance(start.segmenter, SamSegmenter)
    for number in (1, 2):  # from the base, and from a version
        folder = tmp_path / f"version{number}"
        folder.mkdir()
        keep_weights(start, folder)
        kept = bench.catalog.load(folder, device="cpu")
        assert isinstance(kept, SamSegmenter)
        theirs = dict(kept.net.decoder())
        assert all(torch.equal(value, theirs[name]) for name, value in start.segmenter.net.decoder())
        assert kept.encoder == start.segmenter.encoder
        assert weights_of(folder) != ""
        start = Taught(folder, kept)


def test_a_version_is_not_served_on_other_weights_than_it_was_retrained_on(tmp_path: Path, models: Path) -> None:
    root, folder = tmp_path / "models", tmp_path / "version"
    shutil.copytree(models / "sam", root / "sam")
    catalog = Catalog(root)
    folder.mkdir()
    keep_weights(Taught(root / "sam", catalog.load("sam", device="cpu")), folder)
    catalog.load(folder, device="cpu")
    save_model(root, "sam")
    with pytest.raises(ModelError, match="other weights of sam"):
        catalog.load(folder, device="cpu")


def test_an_image_that_was_made_smaller_keeps_its_embedding(tmp_path: Path, models: Path, encoded: list[str]) -> None:
    bench: Workbench = build_workbench(settings(tmp_path, model="sam", models_dir=models))
    _, segmenter = bench.segmenter(bench.base_version)
    pixels = np.random.default_rng(0).integers(0, 256, (900, 1500, 3), np.uint8)
    sample = Sample("content", 1, "x", shrink(pixels))
    assert sample.pixels.shape == (614, 1024, 3)
    first = embed(bench, sample, segmenter)
    assert (len(encoded), first.size) == (1, (614, 1024))
    served = bench.embedding(LoadedImage(pixels, "content"), segmenter, Timings())
    assert (len(encoded), served.size) == (2, (900, 1500)), "what was made of the smaller image serves no click"
    later = embed(bench, sample, segmenter)
    assert (len(encoded), later.size) == (2, (614, 1024))
    assert all(later.arrays[name] is served.arrays[name] for name in later.arrays)
