"""A project that has learned, and a release that brings other base weights."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import load_file, save_file  # noqa: E402

from maskloop.jobs import promotions  # noqa: E402
from maskloop.jobs.teaching import grown  # noqa: E402
from maskloop.jobs.train import run_claimed  # noqa: E402
from maskloop.learn import report  # noqa: E402
from maskloop.learn.versions import Versions  # noqa: E402
from maskloop.ledger import Ledger, Training  # noqa: E402
from maskloop.segment.card import read_card, write_card  # noqa: E402
from maskloop.segment.catalog import Catalog  # noqa: E402
from maskloop.segment.clicknet import ClickNet  # noqa: E402
from maskloop.segment.clicknet_net import ClickNetwork  # noqa: E402
from maskloop.settings import Settings, default_models_dir  # noqa: E402
from tests.jobs.learning_project import PROJECT, settings, submit  # noqa: E402

MODEL = default_models_dir() / "clicknet"


def test_a_version_is_taught_further_only_beside_the_base_that_it_grew_from() -> None:
    torch.manual_seed(1)
    base, other = ClickNetwork(), ClickNetwork()
    version, older_decoder = ClickNetwork(learned=True), ClickNetwork(learned=True)
    for network in (version, older_decoder):
        network.encoder.load_state_dict(base.encoder.state_dict())
    version.decoder.load_state_dict(base.decoder.state_dict())
    assert grown(ClickNet(version, "v"), ClickNet(base, "b"))
    assert grown(ClickNet(base, "b"), ClickNet(base, "b"))
    assert not grown(ClickNet(other, "o"), ClickNet(base, "b"))
    assert not grown(ClickNet(older_decoder, "o"), ClickNet(base, "b"))


@pytest.fixture
def of(tmp_path: Path) -> Settings:
    if not MODEL.is_dir():
        pytest.skip("models/clicknet is missing")
    shutil.copytree(MODEL, tmp_path / "models" / "clicknet")
    return settings(tmp_path, models_dir=tmp_path / "models")


@pytest.fixture
def ledger(of: Settings) -> Iterator[Ledger]:
    ledger = Ledger(of.ledger_url)
    yield ledger
    ledger.close()


def versions(of: Settings) -> Versions:
    return Versions(of.data_dir / "versions", Catalog(of.models_dir, of.data_dir).version(of.model))


def train(of: Settings, ledger: Ledger) -> Training:
    training = ledger.request_training(PROJECT, "Start Training")
    assert ledger.claim_training("me") is not None
    run_claimed(of, training.id, "me")
    done = ledger.training(training.id)
    assert done is not None
    return done


def update_base(of: Settings) -> None:
    """Weights that answer nearly as before, and are others: encoder and decoder."""
    folder = of.models_dir / "clicknet"
    weights = folder / "weights.safetensors"
    tensors = {name: t * 1.002 if name.endswith("weight") else t for name, t in load_file(weights).items()}
    save_file(tensors, weights)
    files = {weights.name: hashlib.sha256(weights.read_bytes()).hexdigest()}
    card = read_card(folder)
    write_card(folder, type(card)(**{**vars(card), "files": files}))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_after_an_update_of_the_base_a_training_begins_with_it_and_is_compared_with_what_serves(
    tmp_path: Path, of: Settings, ledger: Ledger
) -> None:
    submit(tmp_path, ledger, 8)
    old = train(of, ledger).version
    assert old is not None
    promotions.promote(of, ledger, versions(of), PROJECT, old, "test", None)
    update_base(of)
    assert versions(of).current(PROJECT) == old, "what was learned serves on"
    submit(tmp_path, ledger, 4, first=9)
    new = train(of, ledger).version
    base = versions(of).base
    assert new is not None
    assert new.startswith(f"{base}-p{PROJECT}-")
    folder = versions(of).folder(new)
    assert folder is not None
    found = report.read(folder)
    assert (found["started_from"], found["taught_from"], found["base"]) == (old, base, base)
    assert f"Started from `{base}`" in (folder / "report.md").read_text()
    catalog = Catalog(of.models_dir, of.data_dir)
    if found["verdict"]["promote"] and any("clicks stay" in reason for reason in found["verdict"]["reasons"]):
        assert not grown(catalog.load(folder), catalog.load("clicknet")), "the old decoder with new proposals"
    else:
        assert grown(catalog.load(folder), catalog.load("clicknet"))
