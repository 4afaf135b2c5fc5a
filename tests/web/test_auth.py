from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from maskloop.web.services import Services

Serve = Callable[..., tuple[FlaskClient, Services]]
EVENT = {"action": "PROJECT_UPDATED", "project": {"id": 3, "label_config": "<View/>"}}


@pytest.fixture
def locked(serve: Serve) -> FlaskClient:
    return serve(basic_auth_user="me", basic_auth_pass="secret")[0]


@pytest.mark.parametrize("path", ["/health", "/versions", "/metrics", "/", "/status.json", "/job_status?job=x"])
def test_everything_asks_for_the_password(locked: FlaskClient, path: str) -> None:
    assert locked.get(path).status_code == 401
    assert locked.get(path, auth=("me", "wrong")).status_code == 401
    assert locked.get(path, auth=("other", "secret")).status_code == 401
    assert locked.get(path, headers={"Authorization": "Bearer secret"}).status_code == 401
    assert locked.get(path, auth=("me", "secret")).status_code != 401


@pytest.mark.parametrize("path", ["/setup", "/predict", "/train"])
def test_nobody_posts_without_the_password(locked: FlaskClient, path: str) -> None:
    response = locked.post(path, json={})
    assert response.status_code == 401
    assert "connection form" in (response.json or {})["error"]


def test_orchestrators_may_ask_without_a_password(locked: FlaskClient) -> None:
    assert locked.get("/live").status_code == 200
    assert locked.get("/ready").status_code in (200, 503)


def test_a_webhook_without_proof_is_refused_when_nothing_could_check_it(locked: FlaskClient) -> None:
    response = locked.post("/webhook", json=EVENT)
    assert response.status_code == 401
    assert "X-MaskLoop-Secret" in (response.json or {})["error"]
    assert locked.post("/webhook", json=EVENT, auth=("me", "secret")).status_code == 200


def test_a_webhook_may_prove_itself_by_the_secret(serve: Serve) -> None:
    client, _ = serve(basic_auth_user="me", basic_auth_pass="secret", webhook_secret="s3")
    assert client.post("/webhook", json=EVENT, headers={"X-MaskLoop-Secret": "s3"}).status_code == 200
    assert client.post("/webhook", json=EVENT, headers={"X-MaskLoop-Secret": "s4"}).status_code == 401
    assert client.post("/webhook", json=EVENT).status_code == 401


def test_a_webhook_without_proof_is_a_hint_when_the_annotation_can_be_read_again(serve: Serve) -> None:
    client, _ = serve(
        basic_auth_user="me",
        basic_auth_pass="secret",
        label_studio_url="http://127.0.0.1:1",
        label_studio_api_key="0" * 40,
    )
    assert client.post("/webhook", json=EVENT).status_code == 200
    assert client.post("/webhook", json=EVENT, auth=("me", "wrong")).status_code == 401


@pytest.mark.parametrize("host", ["localhost:9090", "127.0.0.1", "[::1]:9090", "host.docker.internal:9090", "maskloop"])
def test_without_a_password_this_machine_is_served_by_its_names(serve: Serve, host: str) -> None:
    assert serve()[0].get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["[::1", "localhost]", "a b.example", ":"])
def test_a_host_that_is_none_is_no_failure_of_ours(serve: Serve, host: str) -> None:
    assert serve()[0].get("/health", headers={"Host": host}).status_code < 500


@pytest.mark.parametrize("host", ["evil.example:9090", "localhost.evil.example", "127.0.0.1.evil.example"])
def test_a_page_whose_name_was_pointed_here_reads_nothing(serve: Serve, host: str) -> None:
    client, _ = serve()
    for route in ("/", "/health", "/versions"):
        assert client.get(route, headers={"Host": host}).status_code == 403
    refused = client.post("/webhook", json={}, headers={"Host": host})
    assert refused.status_code == 403
    assert "BASIC_AUTH_USER" in refused.get_json()["error"]
    locked, _ = serve(basic_auth_user="studio", basic_auth_pass="sesame")
    assert locked.get("/health", headers={"Host": host}, auth=("studio", "sesame")).status_code == 200
