from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from maskloop.jobs import lesson  # noqa: E402
from maskloop.jobs.handlers import build_workbench  # noqa: E402
from maskloop.jobs.lesson import Learned, learn, weigh  # noqa: E402
from maskloop.jobs.material import collect  # noqa: E402
from maskloop.jobs.run import Run  # noqa: E402
from maskloop.jobs.teaching import Taught  # noqa: E402
from maskloop.learn import propose  # noqa: E402
from maskloop.learn.checkpoint import Course  # noqa: E402
from maskloop.learn.gate import Verdict  # noqa: E402
from maskloop.learn.propose import Proposer  # noqa: E402
from maskloop.learn.samples import HOLDOUT, TRAIN, Collected, Sample, split  # noqa: E402
from maskloop.learn.standing import Standing  # noqa: E402
from maskloop.learn.versions import LIVE  # noqa: E402
from maskloop.ledger import Ledger  # noqa: E402
from tests.jobs.learning_project import PROJECT, settings, submit  # noqa: E402

BETTER = Verdict(True, ("better than the current version",), (), (), {}, 20, 10)
NOT_BETTER = Verdict(False, ("not better",), (), (), {}, 20, 10)


def one(live: bool, share: float) -> Standing:
    return Standing(live, 0.5, share, share, share, 20, "")


def test_better_clicks_do_not_silence_a_label() -> None:
    good, again = {"Cell": one(True, 0.9)}, {"Cell": one(True, 0.8)}
    weighed = weigh(BETTER, {"Cell": one(False, 0.2)}, good, lambda: again)
    assert weighed.verdict.promote
    assert weighed.verdict.reasons[-1] == "proposals stay as they are: new ones would be silent for Cell"
    assert weighed.kept == again


def test_better_clicks_do_not_bring_clearly_worse_proposals_but_about_as_good_ones() -> None:
    good = {"Cell": one(True, 0.9)}
    worse = weigh(BETTER, {"Cell": one(True, 0.7)}, good, lambda: good)
    assert worse.kept == good
    assert "F1 0.90 -> 0.70" in worse.verdict.reasons[-1]
    same = weigh(BETTER, {"Cell": one(True, 0.88)}, good, lambda: good)
    assert same == lesson.Weighed(BETTER)


def test_proposals_that_proved_to_be_no_good_are_not_kept() -> None:
    weighed = weigh(BETTER, {"Cell": one(False, 0.3)}, {"Cell": one(True, 0.9)}, lambda: {"Cell": one(False, 0.2)})
    assert weighed == lesson.Weighed(BETTER)


def test_better_proposals_are_promoted_with_the_clicks_as_they_were() -> None:
    weighed = weigh(NOT_BETTER, {"Cell": one(True, 0.9)}, {}, dict)
    assert weighed.verdict.promote
    assert weighed.verdict.reasons[-1] == "clicks stay as they are: not better"
    assert weigh(NOT_BETTER, {}, {}, dict) == lesson.Weighed(NOT_BETTER)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A training of a project whose model needs no weights."""
    of = settings(tmp_path, model="watershed")
    ledger = Ledger(of.ledger_url)
    submit(tmp_path, ledger, 12)
    training = ledger.request_training(PROJECT, "Start Training")
    folder = tmp_path / "run"
    folder.mkdir()
    yield Run(of, ledger, training, "me", build_workbench(of), folder)
    ledger.close()


def material(run: Run) -> tuple[Collected, list[Sample], list[Sample]]:
    collected = collect(run.bench, run.ledger, PROJECT, run.settings, lambda count: None)
    parts = split(collected.samples, {})
    trained, held = ([s for s in collected.samples if parts[s.content] == part] for part in (TRAIN, HOLDOUT))
    return collected, trained, held


def learned(run: Run, monkeypatch: pytest.MonkeyPatch, clicks: Verdict) -> Learned:
    """What is learned where teaching the decoder changes nothing, and the gate says ``clicks``."""

    def teach(run: Run, trained: Sequence[Sample], current: Taught, base: Taught, device: Any) -> Course:
        return Course({}, 0.0, step=1)

    def write(run: Run, folder: Path, start: Path, *_: Any) -> None:
        shutil.copytree(start, folder)

    monkeypatch.setattr(lesson, "teach", teach)
    monkeypatch.setattr(lesson, "write_candidate", write)
    monkeypatch.setattr(lesson, "judge", lambda *scores: clicks)
    monkeypatch.setattr(lesson, "_examine", lambda run, segmenters, *rest: ({name: [] for name in segmenters}, ()))
    return learn(run, *material(run))


@pytest.mark.usefixtures("one_thread")
def test_a_version_with_better_clicks_keeps_the_proposals_that_serve_if_the_new_ones_are_silent(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = learned(run, monkeypatch, BETTER)
    assert json.loads((first.folder / LIVE).read_text()) == ["Disc"]

    def fill(folder: Path) -> None:
        shutil.copytree(first.folder, folder, dirs_exist_ok=True)

    run.bench.versions.promote(PROJECT, run.bench.versions.publish(PROJECT, "1", fill))
    shutil.rmtree(first.folder)
    fit = propose.fit

    def nothing_learned(*args: Any) -> Proposer:
        made = fit(*args)
        assert made.head is not None
        torch.nn.init.zeros_(made.head.layers[-1].weight)
        return made

    monkeypatch.setattr(propose, "fit", nothing_learned)
    again = dataclasses.replace(run, training=dataclasses.replace(run.training, id=2))
    second = learned(again, monkeypatch, BETTER)
    assert second.report.verdict.reasons[-1] == "proposals stay as they are: new ones would be silent for Disc"
    assert json.loads((second.folder / LIVE).read_text()) == ["Disc"]
    assert second.report.proposals["Disc"]["live"]
    before = run.bench.versions.folder(run.bench.versions.current(PROJECT))
    weights, kept = (propose.load(folder).head for folder in (before, second.folder))
    assert weights is not None
    assert kept is not None
    assert all(
        torch.equal(a, b) for a, b in zip(weights.state_dict().values(), kept.state_dict().values(), strict=True)
    )


@pytest.mark.usefixtures("one_thread")
def test_a_training_that_a_device_fails_goes_on_on_the_cpu_and_says_why(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lesson, "device_or_cpu", lambda name: torch.device("meta"))
    taught_on: list[str] = []

    def teach(run: Run, trained: Sequence[Sample], current: Taught, base: Taught, device: Any) -> Course:
        taught_on.append(device.type)
        torch.ones(1, device=device).numpy()
        raise InterruptedError

    monkeypatch.setattr(lesson, "teach", teach)
    monkeypatch.setattr(run.bench.catalog, "load", lambda *args, **kwargs: None)
    with pytest.raises(InterruptedError):
        learn(run, *material(run))
    assert taught_on == ["meta", "cpu"]
    assert "failed on meta and goes on on the CPU: can't convert meta device type tensor" in caplog.text
