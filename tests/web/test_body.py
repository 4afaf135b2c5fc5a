"""Bodies that are JSON and still nothing that Label Studio would send: a clear answer, and never a failure of ours."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.web.conftest import CONFIG, point, request_body

ODD = [
    2**63,
    -(2**70),
    10**250,
    "\ud800",
    float("nan"),
    float("inf"),
    None,
    True,
    [],
    [1],
    {},
    {"id": [1]},
    "",
    -1,
    0,
    1.5,
]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything inside a body."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def changed(body: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    body = copy.deepcopy(body)
    inner: Any = body
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return body


CLICK = request_body(point(40, 40))
BATCH = request_body(batch=True)
BATCH["tasks"][0]["predictions"] = [
    {"id": 1, "model_version": "v", "updated_at": "2026-11-23T08:31:55Z", "score": 0.5, "result": [point(40, 40)]}
]
EVENT = {
    "action": "ANNOTATION_CREATED",
    "project": {"id": 3, "label_config": CONFIG},
    "task": {"id": 7, "data": {"image": "/data/upload/1/a.png"}},
    "annotation": {
        "id": 5,
        "task": 7,
        "completed_by": {"id": 1},
        "updated_at": "2026-11-23T08:31:55.093780Z",
        "was_cancelled": False,
        "result": [point(40, 40)],
    },
}
BODIES = [
    ("/predict", CLICK),
    ("/predict", BATCH),
    ("/webhook", EVENT),
    ("/setup", {"project": "3.1", "label_config": ""}),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    from maskloop.settings import Settings
    from maskloop.web.app import create_app
    from maskloop.web.services import embedded

    folder = tmp_path_factory.mktemp("data")
    services = embedded(Settings(_env_file=None, model="watershed", data_dir=folder, correct_in_place=True))
    yield create_app(services).test_client()
    services.close()


@pytest.mark.parametrize(("route", "body"), BODIES, ids=["click", "batch", "event", "setup"])
def test_odd_values_anywhere_are_no_failure_of_ours(client: FlaskClient, route: str, body: dict[str, Any]) -> None:
    for path in places(body):
        for odd in ODD:
            answer = client.post(route, data=json.dumps(changed(body, path, odd)), content_type="application/json")
            assert answer.status_code < 500 or answer.status_code in (502, 503), (route, path, odd, answer.text)
            json.loads(answer.text, parse_constant=lambda name: pytest.fail(f"{name} in an answer"))


def test_a_body_nested_without_end_is_refused(client: FlaskClient) -> None:
    answer = client.post("/predict", data="[" * 200_000, content_type="application/json")
    assert answer.status_code == 400


@pytest.mark.parametrize("project", [2**63, 10**250, "9" * 5000, "1\ud800"])
def test_a_project_that_cannot_be_is_refused(client: FlaskClient, project: Any) -> None:
    for route in ("/train", "/setup"):
        assert client.post(route, json={"project": project}).status_code == 400


def test_a_job_that_cannot_be_is_not_found(client: FlaskClient) -> None:
    for number in ("9" * 30, "0" * 19 + "1" * 30, "9" * 5000):
        assert client.get(f"/job_status?job=training-{number}").status_code == 404
    assert client.get(f"/versions?project={'9' * 300}").get_json()["versions"]


def test_a_task_that_cannot_be_costs_its_own_entry_only(client: FlaskClient) -> None:
    body = copy.deepcopy(BATCH)
    odd = changed(body["tasks"][0], ("id",), 2**70)
    url = changed(body["tasks"][0], ("data", "image"), "http://x/\ud800.png")
    body["tasks"] = [odd, *body["tasks"], url]
    answer = client.post("/predict", data=json.dumps(body), content_type="application/json")
    assert answer.status_code == 200
    first, second, _ = answer.get_json()["results"]
    assert not first
    assert second["result"]
