"""Lost events, looked for in a server that answers as Label Studio does (tests/e2e asks a real one)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from maskloop.jobs import reconcile as reconciling
from maskloop.jobs.reconcile import Reconciler, reconcile
from maskloop.jobs.trainer import Trainer
from maskloop.labelstudio.client import LabelStudioClient, LabelStudioError
from maskloop.ledger import Ledger, TrainingState
from tests.jobs.learning_project import CONFIG, PROJECT, settings
from tests.labelstudio.server import Handler, Server, reply, serving

KEY = "0" * 40


class Studio:
    """A Label Studio of one project; every annotation is of a task with the same number."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.results: dict[int, object] = {}
        self.hour = 10
        self.answer(f"/api/projects/{PROJECT}/", {"id": PROJECT, "label_config": CONFIG})
        server.routes["/api/tasks/"] = self._list

    def answer(self, path: str, content: object, status: int = 200) -> None:
        self.server.routes[path] = reply(json.dumps(content).encode(), status, Content_Type="application/json")

    def submit(self, number: int, result: object = ()) -> None:
        self.hour += 1
        self.results[number] = result
        self.answer(f"/api/annotations/{number}/", {**self._annotation(number), "task": number, "project": PROJECT})
        self.answer(f"/api/tasks/{number}/", self._task(number))

    def delete(self, number: int) -> None:
        del self.results[number], self.server.routes[f"/api/annotations/{number}/"]

    def _annotation(self, number: int) -> dict[str, Any]:
        at = f"2026-11-23T{self.hour}:00:00.000000Z"
        return {"id": number, "result": self.results[number], "created_at": at, "updated_at": at}

    def _task(self, number: int) -> dict[str, Any]:
        return {"id": number, "project": PROJECT, "data": {"image": f"/data/upload/{number}.png"}}

    def _list(self, request: Handler) -> None:
        query = parse_qs(urlsplit(request.path).query)
        since = "filters" in query["query"][0]
        numbers = [n for n in self.results if not since or n == max(self.results)]
        tasks = [{**self._task(n), "annotations": [self._annotation(n)]} for n in numbers]
        content = {"tasks": tasks, "total": len(tasks), "total_annotations": 0, "total_predictions": 0}
        reply(json.dumps(content).encode(), Content_Type="application/json")(request)


@pytest.fixture
def studio() -> Iterator[Studio]:
    with serving() as server:
        yield Studio(server)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(settings(tmp_path).ledger_url)
    yield ledger
    ledger.close()


def found(ledger: Ledger) -> list[int]:
    return [s.annotation for s in ledger.submissions(PROJECT)]


def test_an_odd_annotation_costs_nothing_but_itself(
    studio: Studio, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number, result in enumerate(([None], ["x"], {"a": 1}, 7, [{"id": "b", "type": "brushlabels"}], []), 1):
        studio.submit(number, result)
    client = LabelStudioClient(studio.server.url, KEY)
    taken_over = reconciling.from_api

    def from_api(annotation: Any, *others: Any) -> Any:
        if annotation.id == 3:
            raise KeyError("as nobody foresaw")
        return taken_over(annotation, *others)

    monkeypatch.setattr(reconciling, "from_api", from_api)
    assert reconcile(ledger, client, PROJECT, 10**8) == 5
    assert found(ledger) == [1, 2, 4, 5, 6]
    assert "annotation 3 is left out" in caplog.text
    assert ledger.polled(PROJECT)[0] != ""


def test_what_label_studio_does_not_tell_now_is_found_later(studio: Studio, ledger: Ledger) -> None:
    studio.submit(1)
    client = LabelStudioClient(studio.server.url, KEY)
    studio.answer("/api/tasks/1/", {}, 503)
    with pytest.raises(LabelStudioError):
        reconcile(ledger, client, PROJECT, 10**8)
    studio.submit(1)
    assert reconcile(ledger, client, PROJECT, 10**8) == 1


def test_a_project_that_fails_does_not_stop_the_others(
    studio: Studio, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    studio.submit(1)
    for project in (0, 7, PROJECT):
        ledger.record_project(project, "<View/>")
    studio.answer("/api/projects/0/", {"id": 0, "label_config": [1]})
    Reconciler(ledger, LabelStudioClient(studio.server.url, KEY), 10**8).look(1000)
    assert found(ledger) == [1]
    assert "project 0: lost events could not be looked for" in caplog.text
    assert "project 7: lost events were not looked for" in caplog.text
    assert all(ledger.polled(project)[1] > 0 for project in (0, 7, PROJECT))


def test_a_label_studio_that_does_not_answer_is_asked_once_and_not_for_each_project(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server:
        client = LabelStudioClient(server.url, KEY)
    asked: list[int] = []

    def ask(ledger: Ledger, client: LabelStudioClient, project: int, *rest: Any) -> int:
        asked.append(project)
        return reconcile(ledger, client, project, *rest)

    monkeypatch.setattr(reconciling, "reconcile", ask)
    for project in (1, 2, 3):
        ledger.record_project(project, CONFIG)
    looking = Reconciler(ledger, client, 1_000_000)
    for _ in range(3):
        looking.look(0.0)
    assert len(asked) == 1
    monkeypatch.setattr(looking, "_silent_until", 0.0)
    looking.look(0.0)
    assert len(asked) == 2


def test_a_deletion_that_nobody_told_is_found_at_the_next_start_and_within_a_day(
    studio: Studio, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = LabelStudioClient(studio.server.url, KEY)
    for number in (1, 2, 3):
        studio.submit(number)
    ledger.record_project(PROJECT, CONFIG)
    Reconciler(ledger, client, 10**8).look(0)
    studio.delete(1)
    started = Reconciler(ledger, client, 10**8)
    started.look(0)
    assert found(ledger) == [2, 3]
    studio.delete(2)
    started.look(0)
    assert found(ledger) == [2, 3]
    monkeypatch.setattr(reconciling, "WHOLE_EVERY", 0.0)
    started.look(0)
    assert found(ledger) == [3]


def test_a_project_whose_events_were_all_lost_is_asked_for_before_it_is_trained(
    studio: Studio, ledger: Ledger, tmp_path: Path
) -> None:
    studio.submit(1)
    ledger.record_poll(PROJECT, "")  # as if asked just now: not due for long
    training = ledger.request_training(PROJECT, "Start Training")
    set_up = settings(tmp_path, label_studio_url=studio.server.url, label_studio_api_key=KEY, poll_seconds=1000)
    trainer = Trainer(set_up, ledger)
    trainer.step()
    try:
        assert found(ledger) == [1]
        assert ledger.training(training.id).state is not TrainingState.WAITING  # type: ignore[union-attr]
    finally:
        trainer._give_back()
