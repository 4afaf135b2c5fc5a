"""Whole task queues through a real queue and a real ledger; Label Studio itself comes in tests/e2e."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from prometheus_client import REGISTRY

from maskloop.jobs import batches as module
from maskloop.jobs import unconfirmed
from maskloop.jobs.preannotate import plan
from maskloop.labelstudio.requests import PredictRequest
from maskloop.ledger import Ledger
from tests.jobs.shelf import Shelf
from tests.jobs.test_preannotate import asked
from tests.jobs.work import Start, Work, masks, request, take_over, wait_for


def test_one_entry_for_each_task_in_order(start: Start, ledger: Ledger) -> None:
    ids = list(range(40, 20, -1))
    assert masks(start().answer(request(*ids), "v1")) == [f"mask of {id}" for id in ids]
    (progress,) = ledger.batches()
    assert (progress.total, progress.done, progress.version) == (20, 20, "v1")


def test_a_task_with_nothing_to_go_by_has_no_entry_and_is_no_work(start: Start, work: Work, ledger: Ledger) -> None:
    before = REGISTRY.get_sample_value("maskloop_failures_total", {"cause": "unusable"}) or 0
    mixed = PredictRequest(3, asked().config, (*asked(id=1).tasks, *request(2).tasks, *asked(id=3, data={}).tasks))
    assert masks(start().answer(mixed, "v1")) == [None, "mask of 2", None]
    assert work.ran == [2]
    assert (REGISTRY.get_sample_value("maskloop_failures_total", {"cause": "unusable"}) or 0) == before + 1
    assert start().answer(PredictRequest(3, asked().config, asked(id=1).tasks), "v1") == [[]]
    assert len(ledger.batches()) == 1


def test_whole_queues_of_a_project_that_learned_are_scored_and_a_task_that_is_opened_is_not(
    start: Start, work: Work
) -> None:
    several = PredictRequest(3, asked().config, (*asked(id=1).tasks, *asked(id=2).tasks))
    opened = PredictRequest(3, asked().config, asked(id=1).tasks)
    elsewhere = PredictRequest(4, asked().config, several.tasks)
    batches = start(learned=lambda project: ["a version"] if project == 3 else [])
    assert [bool(entry) for entry in batches.answer(several, "v1")] == [True, True]
    assert batches.answer(opened, "v1") == [[]]
    assert batches.answer(elsewhere, "v1") == [[], []]
    assert sorted(work.ran) == [1, 2]


def test_the_answer_comes_at_the_deadline_with_what_is_done(start: Start, work: Work, ledger: Ledger) -> None:
    work.stop_after = 5
    answers = start(deadline=2.0).answer(request(*range(1, 51)), "v1")
    done = set(work.ran[:5])  # four are under way at once, so not always the first five
    assert masks(answers) == [f"mask of {id}" if id in done else None for id in range(1, 51)]
    (progress,) = ledger.batches()
    assert (progress.total, progress.done) == (50, 5)


def test_two_identical_requests_at_once_give_one_prediction(start: Start, work: Work) -> None:
    """Label Studio sends two when a task is opened, and stores what both answer."""
    work.open.clear()
    batches = start()
    answers: list[list[Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(batches.answer(request(5), "v1"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    work.open.set()
    for thread in threads:
        thread.join()
    assert sorted(masks(a)[0] or "" for a in answers) == ["", "mask of 5"]
    assert work.ran == [5]


def test_without_a_token_the_rest_is_given_up_and_says_why(
    start: Start, work: Work, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    work.open.clear()
    assert start(deadline=0.2).answer(request(1, 2), "v1") == [[], []]
    work.open.set()
    for _ in range(100):
        (progress,) = ledger.batches()
        if progress.finished:
            break
        time.sleep(0.05)
    assert (progress.done, progress.failed) == (0, 2)
    assert "LABEL_STUDIO_API_KEY" in caplog.text


def test_a_process_takes_over_what_another_left(start: Start, work: Work, ledger: Ledger, shelf: Shelf) -> None:
    """The claim of a process that died runs out; here at once, so that the test need not wait."""
    plans = request(1, 2)
    found = [plan(task, plans.config, "v1") for task in plans.tasks]
    ledger.create_batch(3, "v1", [(p.task, p.digest(), json.dumps(p.to_json())) for p in found if p])
    assert ledger.claim_item("a process that died", lease_seconds=0.0) is not None
    start(client=shelf.client)
    wait_for(lambda: sorted(shelf.pushed) == [1, 2])
    assert sorted(work.ran) == [1, 2]


def test_what_a_request_that_failed_had_claimed_is_done_again(
    start: Start, work: Work, ledger: Ledger, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_SECONDS", 1.5)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    work.stop_after = 1
    batches = start(client=shelf.client)
    real = ledger.progress

    def away(batch: str) -> Any:
        if work.ran:
            raise OSError("the database is away")
        return real(batch)

    monkeypatch.setattr(ledger, "progress", away)
    with pytest.raises(OSError, match="away"):
        batches.answer(request(1, 2), "v1")
    work.go_on.set()
    wait_for(lambda: sorted(work.ran) == [1, 1, 2])


def test_claims_live_on_while_label_studio_is_slow(
    start: Start, work: Work, ledger: Ledger, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_SECONDS", 1.0)
    batches = start(client=shelf.client)
    shelf.answers.clear()
    assert masks(batches.answer(request(1), "v1")) == ["mask of 1"]
    work.stop_after = 2
    answers: list[list[Any]] = []
    thread = threading.Thread(target=lambda: answers.append(batches.answer(request(21, 22), "v1")))
    thread.start()
    wait_for(lambda: work.ran == [1, 21] and ledger.batches()[0].running == 2)
    for _ in range(30):  # three times as long as a claim lasts
        assert ledger.claim_item("another") is None
        time.sleep(0.1)
    work.go_on.set()
    thread.join()
    assert masks(answers[0]) == ["mask of 21", "mask of 22"]


def test_what_another_process_took_over_is_not_answered_too(
    start: Start, work: Work, ledger: Ledger, shelf: Shelf
) -> None:
    work.stop_after = 1
    batches = start(client=shelf.client)
    answers: list[list[Any]] = []
    thread = threading.Thread(target=lambda: answers.append(batches.answer(request(1, 2), "v1")))
    thread.start()
    wait_for(lambda: work.ran == [1])
    take_over(ledger, 1)
    work.go_on.set()
    thread.join()
    assert masks(answers[0]) == [None, "mask of 2"]


def test_an_answer_that_was_lost_is_pushed_once(
    start: Start, work: Work, ledger: Ledger, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two tasks went into the answer of a process that died; Label Studio has stored one of them."""
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.3)
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(unconfirmed, "QUIET_SECONDS", 0.3)
    asked_for = request(1, 2)
    found = [plan(task, asked_for.config, "v1") for task in asked_for.tasks]
    ledger.create_batch(3, "v1", [(p.task, p.digest(), json.dumps(p.to_json())) for p in found if p])
    ledger.answer_items([item.id for item in ledger.claim_items("dead", 2)], "dead", -1)
    shelf.store(1)
    start(client=shelf.client)
    wait_for(lambda: ledger.batches()[0].done == 2)
    assert shelf.pushed == work.ran == [2]


def test_two_processes_without_a_token_answer_everything_in_time(start: Start, ledger: Ledger) -> None:
    """A task that another process claimed could be neither answered nor pushed."""
    first, _ = start(), start()
    ids = list(range(1, 101))
    assert masks(first.answer(request(*ids), "v1")) == [f"mask of {id}" for id in ids]


def test_what_nobody_waits_for_any_more_is_given_up_without_a_token(
    start: Start, work: Work, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it could never be asked for again: it would count as under way."""
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.3)
    ledger.create_batch(3, "v1", [(1, "a box", "{}"), (2, "a box", "{}")])
    assert ledger.claim_item("a process that died", lease_seconds=0.3) is not None
    start(deadline=0.1)
    wait_for(lambda: ledger.batches()[0].failed == 2)
    assert work.ran == []
