from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from maskloop.ledger import TrainingState
from maskloop.web.services import Services
from maskloop.web.status import duration
from tests.web.conftest import point, request_body

Serve = Callable[..., tuple[FlaskClient, Services]]


def test_the_page_shows_model_queue_and_latency(serve: Serve) -> None:
    client, services = serve()
    client.post("/predict", json=request_body(point(40, 40)))
    services.ledger.request_training(5, "Start Training")
    services.ledger.record_project(5, "<View/>")
    page = client.get("/").get_data(as_text=True)
    for text in ("Ready for clicks", services.versions.base, "decode the click", "Project 5", "waiting"):
        assert text in page
    assert "has not called yet" not in page


def test_a_server_that_nobody_connected_says_how_and_with_which_url(client: FlaskClient) -> None:
    page = client.get("/", base_url="http://masks.example:9090").get_data(as_text=True)
    assert "has not called yet" in page
    assert "<code>http://masks.example:9090</code>" in page
    client.post("/setup", json={"project": "5.1700000000", "schema": "<View/>"})
    page = client.get("/").get_data(as_text=True)
    assert "has not called yet" not in page
    assert "Label Studio is connected" in page


def test_the_page_tells_what_became_of_trainings_and_versions(serve: Serve) -> None:
    client, services = serve(train_after=7)
    services.ledger.record_project(5, "<View/>")
    services.ledger.request_training(5, "Start Training")
    training = services.ledger.claim_training("trainer")
    assert training is not None
    services.ledger.report_progress(training.id, "trainer", 0.42, "step 9")
    page = client.get("/").get_data(as_text=True)
    for text in ("42 %", "step 9", "trains after 7 new ones"):
        assert text in page
    services.ledger.finish_training(training.id, "trainer", TrainingState.KEPT, "not better", "v1")
    page = client.get("/").get_data(as_text=True)
    for text in ("kept as a candidate", "not better", " s ago"):
        assert text in page


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (3600, "1 h"), (47 * 3600, "47 h"), (172800, "2 days")],
)
def test_a_span_of_time_is_told_in_its_largest_unit(seconds: float, words: str) -> None:
    assert duration(seconds) == words


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
