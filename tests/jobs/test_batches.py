"""Whole task queues through a real queue and a real ledger; Label Studio itself comes in tests/e2e."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text

from maskloop.jobs import batches as module
from maskloop.jobs import delivery, unconfirmed
from maskloop.jobs.batches import Batches
from maskloop.jobs.preannotate import plan
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.labelstudio.requests import PredictRequest
from maskloop.ledger import Ledger
from maskloop.queue.job import Away, JobError
from maskloop.queue.local import LocalQueue
from tests.jobs.shelf import Shelf
from tests.jobs.test_preannotate import asked, box, prediction
from tests.labelstudio.server import Handler, reply, serving


class Work:
    """A "preannotate" whose answers name the task, and which can be told to wait, to fail, and to fail once."""

    def __init__(self) -> None:
        self.ran: list[int] = []
        self.open = threading.Event()
        self.open.set()
        self.go_on = threading.Event()  # not `open`: whoever stops might close it after it was opened for good
        self.stop_after: int | None = None
        self.bad: set[int] = set()
        self.unlucky: set[int] = set()
        self.away: set[int] = set()
        self.always_away: set[int] = set()
        self.about: dict[str, Any] = {}

    def __call__(self, payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        (payload,) = payloads
        task = payload["task"]
        if self.stop_after == len(self.ran):
            self.go_on.wait(20)
        self.open.wait(20)
        self.ran.append(task)
        if task in self.bad or task in self.unlucky:
            self.unlucky.discard(task)
            return [JobError("the image is not reachable")]
        if task in self.away | self.always_away:
            self.away.discard(task)
            return [Away("the host took no connection")]
        answer = {"model_version": payload["version"], "score": 0.9, "result": [{"id": f"mask of {task}"}]}
        return [{**answer, **self.about}]


@pytest.fixture
def work() -> Work:
    return Work()


Start = Callable[..., Batches]


@pytest.fixture
def start(work: Work, ledger: Ledger) -> Iterator[Start]:
    queue = LocalQueue({"preannotate": work})
    started: list[Batches] = []

    def start(deadline: float = 20.0, client: LabelStudioClient | None = None, **more: Any) -> Batches:
        started.append(Batches(queue, ledger, client, deadline, **more))
        return started[-1]

    yield start
    work.open.set()
    work.go_on.set()
    for batches in started:
        batches.close()
    queue.close()


def request(*ids: int) -> PredictRequest:
    tasks = tuple(asked(id=id, predictions=[prediction(box("a"))]).tasks[0] for id in ids)
    return PredictRequest(3, asked().config, tasks)


def masks(answers: list[Any]) -> list[str | None]:
    return [answer["result"][0]["id"] if answer else None for answer in answers]


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


def test_what_a_request_that_failed_had_claimed_is_done_again(
    start: Start, work: Work, ledger: Ledger, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.3)
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


def take_over(ledger: Ledger, item: int) -> None:
    """What is left when a claim lapsed and another process took it: at once, or a thread here would be first."""
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE batch_item SET owner = 'another' WHERE id = :id"), {"id": item})


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


def wait_for(met: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not met():
        assert time.monotonic() < until
        time.sleep(0.02)
