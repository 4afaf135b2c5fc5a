from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from maskloop import metrics
from maskloop.ledger import TrainingState
from maskloop.segment.card import Card, write_card
from maskloop.settings import Settings
from maskloop.web.app import create_app
from maskloop.web.services import Services, scaled_out
from maskloop.web.status import duration
from tests.redis_server import RedisServer, needs_redis
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
    page = client.get("/", base_url="http://masks.local:9090").get_data(as_text=True)
    assert "has not called yet" in page
    assert "<code>http://masks.local:9090</code>" in page
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


def test_the_page_tells_that_a_version_is_damaged(serve: Serve) -> None:
    client, services = serve()

    def fill(folder: Path) -> None:
        card = Card("a", "clicknet", "CC0", "a test's", files={"a.safetensors": "0" * 64})
        (folder / "a.safetensors").write_bytes(b"something else")
        write_card(folder, card)

    version = services.versions.publish(5, "20261125.1", fill)
    services.versions.promote(5, version)
    page = client.get("/").get_data(as_text=True)
    assert version in page
    assert "It is damaged" in page
    assert "a.safetensors is not the file its card promises" in page


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
    client.post("/predict", json=request_body(point(40, 40)))
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


def scraped(client: FlaskClient) -> dict[str, dict[str, float]]:
    """The values of each series by name and the values of its labels, with commas between."""
    families = text_string_to_metric_families(client.get("/metrics").get_data(as_text=True))
    found: dict[str, dict[str, float]] = {}
    for sample in (sample for family in families for sample in family.samples):
        found.setdefault(sample.name, {})[",".join(sample.labels.values())] = sample.value
    return found


def test_metrics_count_batches_that_ended_and_promotions_wherever_they_were_made(serve: Serve) -> None:
    client, services = serve()
    services.ledger.record_project(5, "<View/>")
    services.ledger.record_promotion(5, "v2", "v1", "gate")
    services.ledger.create_batch(5, "v1", [(1, "a box", "{}"), (2, "a box", "{}")])
    services.ledger.finish_items([item.id for item in services.ledger.claim_items("a worker", 1)], "a worker")
    found = scraped(client)
    assert found["maskloop_promotions_total"] == {"gate,5": 1}
    assert found["maskloop_batch_tasks_ended_total"] == {"done": 1, "failed": 0}
    assert found["maskloop_batch_tasks"] == {"waiting": 1, "running": 0}


@needs_redis
def test_depth_and_age_are_missing_while_redis_is_away(tmp_path: Path) -> None:
    redis = RedisServer(tmp_path)
    redis.start()
    services = scaled_out(Settings(_env_file=None, model="watershed", data_dir=tmp_path / "data", redis_url=redis.url))
    try:
        client = create_app(services).test_client()
        assert set(scraped(client)["maskloop_queue_depth"]) == {"interactive", "prepare", "batch"}
        redis.kill()
        found = scraped(client)
        assert "maskloop_requests_total" in found
        assert {"maskloop_queue_depth", "maskloop_queue_age_seconds"}.isdisjoint(found)
        assert "Clicks that this web process answered." in client.get("/").get_data(as_text=True)
    finally:
        services.close()
        redis.stop()


def test_the_page_counts_clicks_and_no_tasks_of_batches(serve: Serve) -> None:
    client, _ = serve()
    client.post("/predict", json=request_body(point(40, 40)))
    before = client.get("/status.json").json
    for _ in range(50):
        metrics.observe_stages(metrics.BATCH, {"total": 39.0})
    assert (client.get("/status.json").json or {})["latency"] == (before or {})["latency"]
