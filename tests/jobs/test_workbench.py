from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from maskloop.jobs.handlers import build_workbench
from maskloop.jobs.workbench import Workbench
from maskloop.segment.card import ModelError
from tests.jobs.learning_project import PROJECT, settings
from tests.segment.checkpoints import save_model


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    save_model(tmp_path / "models", "sam2")
    return build_workbench(settings(tmp_path, model="sam2", models_dir=tmp_path / "models", device="cpu"))


def weights(folder: Path) -> Path:
    (found,) = folder.glob("*.safetensors")
    return found


@pytest.mark.parametrize("damage", ["truncated", "deleted"])
def test_a_damaged_version_is_answered_by_the_base_until_it_is_restored(
    bench: Workbench, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    base = bench.catalog.folder("sam2")
    name = bench.versions.publish(PROJECT, "1", lambda folder: shutil.copytree(base, folder, dirs_exist_ok=True))
    folder = bench.versions.folder(name)
    assert folder is not None
    assert bench.sound(name) == name
    whole = weights(folder).read_bytes()
    if damage == "truncated":
        weights(folder).write_bytes(whole[:1000])
    else:
        weights(folder).unlink()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert bench.segmenter(name)[0] == bench.sound(name) == bench.base_version
    (said,) = caplog.messages
    assert str(folder) in said
    assert "maskloop rollback" in said
    (folder / weights(base).name).write_bytes(whole)
    assert bench.segmenter(name)[0] == bench.sound(name) == name


def test_a_version_that_is_gone_is_answered_by_the_base(bench: Workbench) -> None:
    gone = f"{bench.base_version}-p{PROJECT}-9"
    assert bench.segmenter(gone)[0] == bench.sound(gone) == bench.base_version


def test_a_damaged_base_is_an_error(bench: Workbench) -> None:
    weights(bench.catalog.folder("sam2")).unlink()
    with pytest.raises(ModelError, match="missing"):
        bench.segmenter(bench.base_version)
