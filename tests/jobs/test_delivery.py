"""What becomes of one task of a batch, through a real queue and a real ledger."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from maskloop.jobs import batches as module
from maskloop.jobs import delivery
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.ledger import Ledger
from tests.jobs.shelf import Shelf
from tests.jobs.work import Start, Work, masks, request, take_over, wait_for
from tests.labelstudio.server import Handler, reply, serving


def test_a_task_that_is_opened_and_has_nothing_on_it_gets_no_prediction(
    start: Start, work: Work, ledger: Ledger, shelf: Shelf
) -> None:
    work.about = {"result": []}
    batches = start(client=shelf.client)
    assert batches.answer(request(1), "v1") == [[]]
    assert ledger.batches()[0].done == 1
    assert [entry["result"] for entry in batches.answer(request(2, 3), "v1")] == [[], []]  # type: ignore[call-overload]
    work.stop_after = len(work.ran)
    late = start(deadline=0.3, client=shelf.client)
    assert late.answer(request(4), "v1") == [[]]
    work.go_on.set()
    wait_for(lambda: ledger.batches()[0].done == 1)
    assert shelf.pushed == []


def test_a_task_that_fails_costs_its_own_entry_only(start: Start, work: Work, ledger: Ledger) -> None:
    work.bad, work.unlucky = {2}, {3}
    assert masks(start().answer(request(1, 2, 3), "v1")) == ["mask of 1", None, "mask of 3"]
    assert work.ran.count(2) == 3
    (progress,) = ledger.batches()
    assert (progress.done, progress.failed) == (2, 1)


def test_a_task_whose_image_does_not_answer_is_done_later_and_not_waited_for(
    start: Start, work: Work, ledger: Ledger, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "AWAY_SECONDS", 1.0)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)
    work.away = {2}
    assert masks(start(client=shelf.client).answer(request(1, 2), "v1")) == ["mask of 1", None]
    assert work.ran.count(2) == 1
    wait_for(lambda: shelf.pushed == [2])
    assert work.ran.count(2) == 2


def test_a_task_whose_image_never_answers_fails_the_third_time(
    start: Start, work: Work, ledger: Ledger, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "AWAY_SECONDS", 0.01)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.1)
    work.always_away = {1}
    assert masks(start(client=shelf.client).answer(request(1), "v1")) == [None]
    wait_for(lambda: ledger.batches()[0].failed == 1)
    assert work.ran == [1, 1, 1]
    assert not shelf.pushed


def test_a_prediction_that_label_studio_will_not_have_is_given_up(
    start: Start, work: Work, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not be tried for ever: the oldest tasks go first, and the others would never have their turn."""
    monkeypatch.setattr(delivery, "PAUSE_SECONDS", 0.02)

    def predictions(request: Handler) -> None:
        asked_for = request.command == "GET"
        reply(b"[]" if asked_for else b"{}", 200 if asked_for else 400, Content_Type="application/json")(request)

    with serving() as studio:
        studio.routes["/api/predictions/"] = predictions
        work.open.clear()
        assert start(0.1, LabelStudioClient(studio.url, "5ec2e7" * 6 + "abcd")).answer(request(1), "v1") == [[]]
        work.open.set()
        wait_for(lambda: ledger.batches()[0].finished)
    assert ledger.batches()[0].failed == 1
    assert work.ran == [1] * 3


def test_what_another_process_took_over_is_not_pushed_too(
    start: Start, work: Work, ledger: Ledger, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    work.open.clear()
    batches = start(0.2, client=shelf.client)
    assert batches.answer(request(1), "v1") == [[]]
    take_over(ledger, 1)
    work.open.set()
    wait_for(lambda: "taken over by another process" in caplog.text)
    assert shelf.pushed == []


def test_a_batch_is_counted_as_clicks_are(start: Start, work: Work) -> None:
    work.bad, version = {2}, "counted-1"
    work.about = {"seconds": {"decode": 0.01, "total": 0.02}, "tier": "a tier of this test"}
    failed = REGISTRY.get_sample_value("maskloop_failures_total", {"cause": "failed"}) or 0
    stages = {stage: stage_count(stage) for stage in ("waiting", "decode", "total")}
    good, bad = start().answer(request(1, 2), version)
    assert (set(good), bad) == ({"model_version", "score", "result"}, [])
    answers = {"kind": "batch", "version": version}
    assert REGISTRY.get_sample_value("maskloop_answers_total", answers) == 1
    assert REGISTRY.get_sample_value("maskloop_failures_total", {"cause": "failed"}) == failed + 1
    assert REGISTRY.get_sample_value("maskloop_embeddings_total", {"tier": "a tier of this test"}) == 1
    assert {stage: stage_count(stage) - before for stage, before in stages.items()} == dict.fromkeys(stages, 1)


def stage_count(stage: str) -> float:
    labels = {"kind": "batch", "stage": stage}
    return REGISTRY.get_sample_value("maskloop_stage_seconds_count", labels) or 0.0
