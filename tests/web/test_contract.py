from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from maskloop.web.services import Services
from tests.labelstudio.server import reply, serving
from tests.web.conftest import CONFIG

SETUP = {
    "project": "3.1795417656",
    "schema": CONFIG,
    "hostname": "http://localhost:8080",
    "access_token": "0" * 40,
    "extra_params": None,
}


def test_health_answers_as_label_studio_expects(client: FlaskClient) -> None:
    response = client.get("/health")
    assert response.status_code == 200
    assert response.json is not None
    assert response.json["status"] == "UP"


def test_setup_reports_the_version_predictions_will_carry(serve: Callable[..., tuple[FlaskClient, Services]]) -> None:
    client, services = serve()
    answer = client.post("/setup", json=SETUP)
    assert answer.json == {"model_version": services.versions.base}


def test_a_project_is_known_once_it_is_connected(serve: Callable[..., tuple[FlaskClient, Services]]) -> None:
    """Its first events may be lost: only a known project is asked for them."""
    with serving() as studio:
        found = json.dumps({"id": 3, "label_config": CONFIG}).encode()
        studio.routes["/api/projects/3/"] = reply(found, Content_Type="application/json")
        client, services = serve(label_studio_url=studio.url, label_studio_api_key="0" * 40)
        for _ in range(3):
            assert client.post("/setup", json=SETUP).status_code == 200
        services.inbox.close()
        assert studio.paths == ["/api/projects/3/"]
        assert services.ledger.label_config(3) == CONFIG


@pytest.mark.parametrize("extra", [None, "", {"a": 1}, "{}"])
def test_setup_takes_any_extra_params(client: FlaskClient, extra: Any) -> None:
    assert client.post("/setup", json={**SETUP, "extra_params": extra}).status_code == 200


@pytest.mark.parametrize("path", ["/setup", "/predict", "/train", "/webhook"])
@pytest.mark.parametrize("body", [b"", b"[]", b"not json", b'{"project": {}}', b"\xff\xfe"])
def test_a_malformed_body_is_a_clear_400(client: FlaskClient, path: str, body: bytes) -> None:
    response = client.post(path, data=body, content_type="application/json")
    assert response.status_code == 400
    assert response.json is not None
    assert len(response.json["error"]) > 20


def test_versions_of_a_project_start_with_the_base(serve: Callable[..., tuple[FlaskClient, Services]]) -> None:
    client, services = serve()
    assert client.get("/versions?project=3").json == {"versions": [services.versions.base]}
    assert client.get("/versions").json == {"versions": [services.versions.base]}


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", None])
def test_what_a_page_of_a_stranger_can_send_is_not_taken(client: FlaskClient, kind: str | None) -> None:
    """Browsers let any page post text to 127.0.0.1; for JSON they ask first, and are not answered."""
    assert client.post("/train", data='{"project": 3}', content_type=kind).status_code == 400
    told = '{"action": "START_TRAINING", "project": {"id": 3}}'
    assert client.post("/webhook", data=told, content_type=kind).status_code == 400
    asked = client.options("/train", headers={"Access-Control-Request-Method": "POST", "Origin": "http://evil.example"})
    assert not [name for name, _ in asked.headers if name.startswith("Access-Control")]


def test_a_training_can_be_asked_for_and_followed(client: FlaskClient) -> None:
    answer = client.post("/train", json={"project": "3.1795"}).json
    assert answer is not None
    status = client.post("/job_status", json={"job": answer["job"]}).json
    assert status is not None
    assert status["status"] == "waiting"
    assert client.get(f"/job_status?job={answer['job']}").json == status
    for odd in ("training-99999", "training-²", "training-", "0123456789ab"):
        unknown = client.get(f"/job_status?job={odd}")
        assert unknown.status_code == 404
        assert odd in (unknown.json or {})["error"]
    for wrong in ({}, {"project": "²"}, {"project": [3]}):
        assert client.post("/train", json=wrong).status_code == 400
    assert client.get("/job_status").status_code == 400


def test_an_unknown_route_and_method_are_json_too(client: FlaskClient) -> None:
    for response in (client.get("/nowhere"), client.get("/predict")):
        assert response.status_code in (404, 405)
        assert response.json is not None
        assert response.json["error"]


def test_a_body_over_the_limit_is_413(serve: Callable[..., tuple[FlaskClient, Services]]) -> None:
    client, _ = serve(max_body_mb=1)
    response = client.post("/predict", data=b"x" * 1_100_000, content_type="application/json")
    assert response.status_code == 413
    assert response.json is not None
    assert "MASKLOOP_MAX_BODY_MB" in response.json["error"]
