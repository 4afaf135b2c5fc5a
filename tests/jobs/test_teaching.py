from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

pytest.importorskip("torch")

from maskloop.jobs.run import Run
from maskloop.jobs.teaching import LEARNED, VALIDATION_SHARE, Taught, apart, latest_candidate, write_candidate
from maskloop.learn.checkpoint import Course
from maskloop.learn.network import load_network
from maskloop.learn.samples import Sample, Target
from maskloop.learn.versions import Versions
from maskloop.ledger import Ledger
from maskloop.segment.card import labels_of, read_card
from maskloop.segment.segmenter import Segmenter
from maskloop.settings import default_models_dir

PIXELS = np.zeros((2, 2, 3), np.uint8)


def images(count: int) -> list[Sample]:
    names = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]
    return [Sample(name, number, "", PIXELS) for number, name in enumerate(names)]


def contents(samples: list[Sample]) -> set[str]:
    return {sample.content for sample in samples}


def test_an_image_that_was_taught_never_judges_a_later_training() -> None:
    taught: set[str] = set()
    for count in range(12, 200, 4):
        validation, train = apart(images(count))
        assert not contents(validation) & taught
        assert contents(validation) | contents(train) == contents(images(count))
        taught |= contents(train)


def test_about_a_fifth_judge() -> None:
    validation, train = apart(images(400))
    assert len(validation) / 400 == pytest.approx(VALIDATION_SHARE, abs=0.05)
    assert not contents(validation) & contents(train)


@pytest.mark.parametrize("first", range(40))
def test_of_two_images_one_teaches_and_one_judges(first: int) -> None:
    validation, train = apart(images(first + 2)[first:])
    assert (len(validation), len(train)) == (1, 1)


def test_a_candidate_says_which_labels_have_enough_objects_to_count_as_learned(tmp_path: Path) -> None:
    def sample(number: int, *labels: str | None) -> Sample:
        targets = [Target(number, f"r{k}", label, (2, 2), b"\xf0") for k, label in enumerate(labels)]
        return Sample(f"{number}", number, "", PIXELS, tuple(targets))

    trained = [sample(1, *["car"] * (LEARNED - 1), "tree", None), sample(2, "car", *[None] * LEARNED)]
    base = default_models_dir() / "clicknet"
    course = Course(dict(load_network(base).decoder.named_parameters()), 0.0)
    write_candidate(
        cast(Run, SimpleNamespace(project=3)), tmp_path / "new", base, course, trained, [np.ones(3, np.float32)]
    )
    assert labels_of(read_card(tmp_path / "new")) == ("car",)
    assert load_network(tmp_path / "new").known is not None


def test_the_latest_candidate_is_newer_than_what_serves_and_never_served(tmp_path: Path) -> None:
    base = default_models_dir() / "clicknet"
    versions, ledger = Versions(tmp_path / "versions", "clicknet-0"), Ledger(f"sqlite:///{tmp_path}/ledger.sqlite3")
    bench = SimpleNamespace(versions=versions, base_version="clicknet-0")
    run = cast(Run, SimpleNamespace(project=3, ledger=ledger, bench=bench))

    def publish(serial: str) -> str:
        name = versions.publish(3, serial, lambda folder: shutil.copytree(base, folder, dirs_exist_ok=True))
        made = int(serial) * 1000
        os.utime(versions.root / "p3" / name / "model.toml", (made, made))
        return name

    def latest() -> str | None:
        current = versions.folder(versions.current(3)) or base
        found = latest_candidate(run, Taught(current, cast(Segmenter, None)))
        return None if found is None else found.name

    assert latest() is None
    first = publish("1")
    assert latest() == first
    versions.promote(3, first)
    ledger.record_promotion(3, first, "clicknet-0", "gate")
    assert latest() is None
    second = publish("2")
    assert latest() == second
    versions.rollback(3)
    assert latest() == second
    versions.promote(3, second)
    ledger.record_promotion(3, second, "clicknet-0", "person")
    versions.rollback(3)
    assert latest() is None, "what people left is not gone on with"
    (versions.root / "p3" / publish("3") / "weights.safetensors").write_bytes(b"damaged")
    assert latest() is None
    ledger.close()
