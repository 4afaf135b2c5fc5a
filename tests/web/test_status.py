from __future__ import annotations

from collections.abc import Callable

from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from maskloop.web.services import Services
from tests.web.conftest import point, request_body

Serve = Callable[..., tuple[FlaskClient, Services]]


def test_the_page_shows_model_queue_and_latency(serve: Serve) -> None:
    client, services = serve()
    client.post("/predict", json=request_body(point(40, 40)))
    services.ledger.request_training(5, "Start Training")
    services.ledger.record_project(5, "<View/>")
    page = client.get("/").get_data(as_text=True)
    for text in ("Ready for clicks", services.versions.base, "Click to answer", "decode", "Project 5", "waiting"):
        assert text in page


def test_labels_and_notes_cannot_inject_html(serve: Serve) -> None:
    client, services = serve()
    services.ledger.record_project(5, "<View/>")
    services.ledger.request_training(5, "<script>alert(1)</script>")
    assert "<script>alert" not in client.get("/").get_data(as_text=True)


def test_ready_says_why_not(serve: Serve) -> None:
    client, services = serve()
    assert client.get("/ready").status_code == 200
    services.queue.close()
    response = client.get("/ready")
    assert response.status_code == 503
    assert "restart" in (response.json or {})["status"]


def test_metrics_parse_and_count_requests(client: FlaskClient) -> None:
    client.get("/health")
    families = {f.name: f for f in text_string_to_metric_families(client.get("/metrics").get_data(as_text=True))}
    assert {"maskloop_requests", "maskloop_stage_seconds", "maskloop_queue_depth"} <= set(families)
    routes = {sample.labels["route"] for sample in families["maskloop_requests"].samples}
    assert "/health" in routes
