from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from maskloop.jobs.effort import Effort
from maskloop.labelstudio import rle
from maskloop.web import inbox
from maskloop.web.services import Services
from tests.labelstudio.server import reply, serving
from tests.web.conftest import CONFIG, HEIGHT, WIDTH, data_url, disc, point, request_body

Serve = Callable[..., tuple[FlaskClient, Services]]
PROJECT = {"id": 3, "label_config": CONFIG}


def brush(mask: np.ndarray, id: str = "r1") -> dict[str, Any]:
    return {
        "id": id,
        "type": "brushlabels",
        "from_name": "brush",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "value": {"format": "rle", "rle": list(rle.encode(mask)), "brushlabels": ["Object"]},
    }


def annotation(*result: dict[str, Any], id: int = 11, at: str = "2026-11-23T10:00:00Z", **more: Any) -> dict[str, Any]:
    return {"id": id, "task": 7, "project": 3, "completed_by": 1, "updated_at": at, "result": list(result), **more}


def event(action: str, **content: Any) -> dict[str, Any]:
    return {"action": action, "project": PROJECT, **content}


def task() -> dict[str, Any]:
    return {"id": 7, "data": {"image": data_url(disc())}}


TRUTH = disc()[..., 0] > 100


def test_a_submission_is_recorded_once_however_often_it_is_told(serve: Serve) -> None:
    client, services = serve()
    for action in ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_CREATED"):
        told = event(action, annotation=annotation(brush(TRUTH)), task=task())
        assert client.post("/webhook", json=told).status_code == 200
    (submission,) = services.ledger.submissions(3)
    assert (submission.task, submission.annotation) == (7, 11)
    assert submission.image.startswith("data:image/png")
    (region,) = submission.regions
    assert region.rle is not None
    assert (rle.decode_mask(region.rle, (HEIGHT, WIDTH)) == TRUTH).all()


def test_an_older_form_never_overwrites_a_newer_one(serve: Serve) -> None:
    client, services = serve()
    newer = annotation(brush(TRUTH), brush(~TRUTH, "r2"), at="2026-11-23T11:00:00Z")
    older = annotation(brush(TRUTH), at="2026-11-23T10:00:00Z")
    for told in (newer, older):
        client.post("/webhook", json=event("ANNOTATION_UPDATED", annotation=told, task=task()))
    assert len(services.ledger.submissions(3)[0].regions) == 2


def test_bulk_events_and_deletions(serve: Serve) -> None:
    client, services = serve()
    both = [annotation(brush(TRUTH), id=n) for n in (11, 12)]
    client.post("/webhook", json=event("ANNOTATIONS_CREATED", annotation=both, task=[task()]))
    assert len(services.ledger.submissions(3)) == 2
    client.post("/webhook", json=event("ANNOTATIONS_DELETED", annotations=[{"id": 11}]))
    assert [s.annotation for s in services.ledger.submissions(3)] == [12]
    client.post("/webhook", json=event("TASKS_DELETED", tasks=[{"id": 7}]))
    assert services.ledger.submissions(3) == []


def test_start_training_answers_with_a_job(client: FlaskClient) -> None:
    answer = client.post("/webhook", json=event("START_TRAINING")).json
    assert answer is not None
    assert client.get(f"/job_status?job={answer['job']}").status_code == 200


def test_two_start_trainings_are_one_run(client: FlaskClient) -> None:
    jobs = {(client.post("/webhook", json=event("START_TRAINING")).json or {})["job"] for _ in range(2)}
    assert len(jobs) == 1


@pytest.mark.parametrize("action", ["PROJECT_CREATED", "LABEL_LINK_CREATED", "SOMETHING_NEW"])
def test_other_events_are_ignored_politely(client: FlaskClient, action: str) -> None:
    assert client.post("/webhook", json=event(action)).json == {"status": "ignored"}


def test_clicks_per_mask_and_agreement_are_measured(serve: Serve) -> None:
    client, services = serve()
    answer = client.post("/predict", json=request_body(point(40, 40))).json
    assert answer is not None
    region = answer["results"][0]["result"][0]["id"]
    services.recorder.close()
    client.post("/webhook", json=event("ANNOTATION_CREATED", annotation=annotation(brush(TRUTH, region)), task=task()))
    services.inbox.close()
    text = client.get("/metrics").get_data(as_text=True)
    assert 'maskloop_clicks_per_mask_count{project="3"} 1.0' in text
    assert 'maskloop_submission_iou_count{project="3"} 1.0' in text


def test_an_answer_does_not_wait_for_what_is_measured(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answered = threading.Event()

    def measure(*_: object) -> list[Effort]:
        assert answered.wait(20)
        raise ValueError("unlucky")

    monkeypatch.setattr(inbox, "measure", measure)
    client, services = serve()
    told = event("ANNOTATION_CREATED", annotation=annotation(brush(TRUTH)), task=task())
    assert client.post("/webhook", json=told).status_code == 200
    answered.set()
    services.inbox.close()
    assert len(services.ledger.submissions(3)) == 1
    assert "annotation 11 could not be measured" in caplog.text


def test_a_time_that_is_none_is_no_error(serve: Serve) -> None:
    client, services = serve()
    told = event("ANNOTATION_CREATED", annotation=annotation(brush(TRUTH), at="garbage"), task=task())
    assert client.post("/webhook", json=told).status_code == 200
    assert len(services.ledger.submissions(3)) == 1


def test_what_was_never_known_is_not_looked_up_when_it_is_deleted(serve: Serve) -> None:
    with serving() as studio:
        client, services = serve(label_studio_url=studio.url, label_studio_api_key="0" * 40)
        gone = event("ANNOTATIONS_DELETED", annotations=[{"id": number} for number in range(2000)])
        assert client.post("/webhook", json=gone).status_code == 200
        services.inbox.close()
        assert studio.paths == []


def test_an_unproven_event_cannot_delete_what_is_still_to_come(serve: Serve) -> None:
    """Whoever reaches the port may name any number; the annotation that gets it later must still be learned from."""
    with serving() as studio:
        studio.routes["/api/projects/3"] = studio.routes["/api/projects/3/"] = reply(
            json.dumps(PROJECT).encode(), Content_Type="application/json"
        )
        client, services = serve(webhook_secret="s", label_studio_url=studio.url, label_studio_api_key="0" * 40)
        for told in (
            event("ANNOTATION_CREATED", annotation=annotation(brush(TRUTH)), task=task()),
            event("ANNOTATIONS_DELETED", annotations=[{"id": 11}]),
            event("TASKS_DELETED", tasks=[{"id": 7}]),
        ):
            assert client.post("/webhook", json=told).status_code == 200
        services.inbox.close()
        assert "/api/annotations/11/" in studio.paths
    later = event("ANNOTATION_CREATED", annotation=annotation(brush(TRUTH)), task=task())
    assert client.post("/webhook", json=later, headers={"X-MaskLoop-Secret": "s"}).status_code == 200
    assert [s.annotation for s in services.ledger.submissions(3)] == [11]


def test_an_unproven_event_alone_records_nothing(serve: Serve) -> None:
    client, services = serve(
        basic_auth_user="me",
        basic_auth_pass="secret",
        label_studio_url="http://127.0.0.1:1",
        label_studio_api_key="0" * 40,
    )
    told = event("ANNOTATION_CREATED", annotation=annotation(brush(TRUTH)), task=task())
    assert client.post("/webhook", json=told).status_code == 200
    services.inbox.close()
    assert services.ledger.submissions(3) == []
    assert client.post("/webhook", json=event("START_TRAINING")).status_code == 401
