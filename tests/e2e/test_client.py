"""The client against the real API: paging, time, idempotence, order, and its errors."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from maskloop.demo.account import Account
from maskloop.demo.project import CONFIG
from maskloop.demo.studio import Studio
from maskloop.labelstudio.client import LabelStudioClient, LabelStudioError, Missing, Refused, Unreachable
from maskloop.labelstudio.connections import Connections


@pytest.fixture
def client(studio: Studio, token: str) -> LabelStudioClient:
    return LabelStudioClient(studio.url, token)


@pytest.fixture
def project(account: Account) -> Iterator[int]:
    project = account.create_project("client", CONFIG)
    yield project
    account.call("DELETE", f"/api/projects/{project}/")


def add_tasks(account: Account, project: int, count: int) -> list[int]:
    tasks = [{"image": f"/data/upload/{number}.png"} for number in range(count)]
    account.call("POST", f"/api/projects/{project}/import", json=tasks)
    return account.task_ids(project)


def test_tasks_over_several_pages(client: LabelStudioClient, account: Account, project: int) -> None:
    ids = add_tasks(account, project, 200)
    assert [task.id for task in client.tasks(project)] == ids
    chosen = [*ids[3:150], ids[-1] + 1000]
    assert [task.id for task in client.tasks(project, reversed(chosen))] == ids[3:150]
    assert list(client.tasks(project, [])) == []
    assert client.task(ids[7]).data == {"image": "/data/upload/7.png"}
    assert client.task(ids[7]).project == project


def test_submissions_since_a_time_skipped_ones_included(
    client: LabelStudioClient, account: Account, project: int
) -> None:
    first, second, _ = add_tasks(account, project, 3)
    made = account.call("POST", f"/api/tasks/{first}/annotations/", json={"result": []})
    skipped = account.call("POST", f"/api/tasks/{second}/annotations/", json={"result": [], "was_cancelled": True})
    found = {annotation.id: annotation for annotation in client.annotations(project)}
    assert set(found) == {made["id"], skipped["id"]}
    assert found[skipped["id"]].was_cancelled
    assert (found[made["id"]].task, found[made["id"]].project) == (first, project)
    assert client.annotation(made["id"]) == found[made["id"]]

    later = found[skipped["id"]].updated_at
    assert [annotation.id for annotation in client.annotations(project, since=later)] == [skipped["id"]]
    account.call("PATCH", f"/api/annotations/{made['id']}/", json={"ground_truth": True})
    changed = list(client.annotations(project, since=later))
    assert {annotation.id for annotation in changed} == {made["id"], skipped["id"]}
    assert client.annotation(made["id"]).ground_truth
    assert list(client.annotations(project, since=datetime.now(timezone.utc) + timedelta(days=1))) == []


def test_a_prediction_is_pushed_once_for_each_version(
    client: LabelStudioClient, account: Account, project: int
) -> None:
    (task,) = add_tasks(account, project, 1)
    assert client.push_prediction(task, [], 0.5, "v1") is True
    assert client.push_prediction(task, [], 0.7, "v1") is False
    assert client.push_prediction(task, [], 0.9, "v2") is True
    stored = client.predictions(task)
    assert [(prediction.model_version, prediction.score) for prediction in stored] == [("v1", 0.5), ("v2", 0.9)]


def test_a_version_that_predicts_becomes_the_projects(
    client: LabelStudioClient, account: Account, project: int
) -> None:
    (task,) = add_tasks(account, project, 1)
    with pytest.raises(LabelStudioError, match="model version"):
        Connections(client).choose_version(project, "v1")
    client.push_prediction(task, [], 0.5, "v1")
    Connections(client).choose_version(project, "v1")
    assert client.project(project).model_version == "v1"


def test_the_next_tasks_follow_the_tab(client: LabelStudioClient, account: Account, project: int) -> None:
    ids = add_tasks(account, project, 6)
    account.call("POST", f"/api/tasks/{ids[2]}/annotations/", json={"result": []})
    assert client.next_task_ids(project, ids[0], 3) == [ids[1], ids[3], ids[4]]
    assert client.next_task_ids(project, ids[-1], 3) == []
    assert client.next_task_ids(project, ids[0], 0) == []

    for task, score in zip(ids, (0.9, 0.2, 0.1, 0.8, 0.3, 0.4), strict=True):
        client.push_prediction(task, [], score, "v1")
    Connections(client).choose_version(project, "v1")
    account.call("PATCH", f"/api/projects/{project}/", json={"model_version": "v1"})  # whose scores are shown
    view = {"project": project, "data": {"title": "Uncertain first", "ordering": ["tasks:predictions_score"]}}
    account.call("POST", "/api/dm/views/", json=view)
    assert client.next_task_ids(project, ids[1], 3) == [ids[4], ids[5], ids[3]]


def test_webhooks_keep_the_headers_they_had(client: LabelStudioClient, project: int) -> None:
    connections = Connections(client)
    connections.create_webhook(project, "http://127.0.0.1:9/webhook", {"X-One": "1"})
    (webhook,) = [found for found in connections.webhooks(project) if found.project == project]
    connections.repair_webhook(webhook, {"X-Two": "2"})
    (webhook,) = [found for found in connections.webhooks(project) if found.project == project]
    assert webhook.headers == {"X-One": "1", "X-Two": "2"}
    assert webhook.actions is None
    assert connections.backends(project) == []


def test_errors_say_what_to_do_and_never_the_token(studio: Studio, client: LabelStudioClient, token: str) -> None:
    with pytest.raises(Missing):
        client.task(10**7)
    with pytest.raises(Missing):
        list(client.tasks(10**7))
    with pytest.raises(Refused, match="maskloop doctor") as refused:
        LabelStudioClient(studio.url, "f" * 40).whoami()
    assert "f" * 40 not in str(refused.value)
    with pytest.raises(Unreachable, match="LABEL_STUDIO_URL") as unreachable:
        LabelStudioClient("http://127.0.0.1:9", token).whoami()
    assert token not in str(unreachable.value)


def test_a_score_without_masks_is_enough_to_order_tasks_by(
    client: LabelStudioClient, account: Account, project: int
) -> None:
    known, unknown = add_tasks(account, project, 2)
    for task, score in ((known, 0.8), (unknown, 0.3)):
        assert client.push_prediction(task, [], score, "v1")
    account.call("PATCH", f"/api/projects/{project}/", json={"model_version": "v1"})  # whose scores are shown
    view = {"project": project, "data": {"ordering": ["tasks:predictions_score"]}}
    made = account.call("POST", "/api/dm/views/", json=view)
    shown = account.call("GET", f"/api/tasks/?view={made['id']}&project={project}")["tasks"]
    assert [(task["id"], task["predictions_score"]) for task in shown] == [(unknown, 0.3), (known, 0.8)]
