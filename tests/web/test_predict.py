from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from label_studio_sdk.label_interface import LabelInterface

from maskloop.labelstudio import rle
from maskloop.web.services import Services
from tests.web.conftest import CONFIG, HEIGHT, WIDTH, data_url, disc, point, request_body

Serve = Callable[..., tuple[FlaskClient, Services]]


def answered(client: FlaskClient, body: dict[str, object]) -> dict[str, object]:
    response = client.post("/predict", json=body)
    assert response.status_code == 200, response.json
    assert response.json is not None
    (result,) = response.json["results"]
    return dict(result)


def mask_of(result: dict[str, object]) -> np.ndarray:
    regions: Any = result["result"]
    return rle.decode_mask(bytes(regions[0]["value"]["rle"]), (HEIGHT, WIDTH))


def test_a_click_is_answered_with_a_valid_mask_under_it(serve: Serve) -> None:
    client, services = serve()
    result = answered(client, request_body(point(40, 40)))
    assert LabelInterface(CONFIG).validate_prediction(result)
    assert result["model_version"] == services.versions.base
    mask = mask_of(result)
    truth = disc()[..., 0] > 100
    assert (mask & truth).sum() / (mask | truth).sum() > 0.8


def test_clicks_accumulate_and_negative_ones_take_away(client: FlaskClient) -> None:
    first = mask_of(answered(client, request_body(point(40, 40))))
    second = mask_of(answered(client, request_body(point(40, 40), point(50, 40, positive=False, id="p2"))))
    assert first[40, 50]
    assert not second[40, 50]
    assert second[40, 40]


def test_every_answer_to_one_chain_has_the_same_region_id(client: FlaskClient) -> None:
    ids = {
        answered(client, request_body(*points))["result"][0]["id"]  # type: ignore[index]
        for points in ([point(40, 40)], [point(40, 40), point(45, 40, id="p2")])
    }
    assert len(ids) == 1


def test_nothing_to_do_is_an_empty_result(client: FlaskClient) -> None:
    assert answered(client, request_body())["result"] == []
    assert answered(client, request_body(point(100, 80, positive=False)))["result"] == []


def test_opening_a_task_answers_at_once_and_prepares_its_image(serve: Serve) -> None:
    client, services = serve()
    response = client.post("/predict", json=request_body(batch=True))
    assert response.json == {"results": [[]]}
    answered(client, request_body(point(40, 40)))
    metrics = client.get("/metrics").get_data(as_text=True)
    assert 'maskloop_embeddings_total{tier="memory"}' in metrics
    assert services.queue.depths()["prepare"] == 0


def test_one_entry_a_task_and_a_broken_one_costs_only_its_own(client: FlaskClient) -> None:
    body = request_body(batch=True)
    body["tasks"] = [body["tasks"][0], {"id": 8, "data": {}}, 5, body["tasks"][0]]
    response = client.post("/predict", json=body)
    assert response.status_code == 200
    assert response.json is not None
    assert len(response.json["results"]) == 4


def test_an_image_that_cannot_be_fetched_is_an_error_that_says_why(client: FlaskClient) -> None:
    response = client.post("/predict", json=request_body(point(40, 40), url="/data/upload/1/a.png"))
    assert response.status_code == 502
    assert response.json is not None
    assert "LABEL_STUDIO_URL" in response.json["error"]


def test_an_image_of_another_size_than_the_browser_saw_is_refused(client: FlaskClient) -> None:
    other = data_url(np.zeros((50, 50, 3), np.uint8))
    response = client.post("/predict", json=request_body(point(40, 40), url=other))
    assert response.status_code == 502
    assert response.json is not None
    assert "Reload the task" in response.json["error"]


def test_concurrent_clicks_on_different_images_are_never_mixed_up(serve: Serve) -> None:
    _, services = serve()
    from maskloop.web.app import create_app

    app = create_app(services)
    centres = [(30, 30), (90, 30), (30, 65), (90, 65)]
    images = [data_url(disc(centre, 18)) for centre in centres]

    def ask(n: int) -> bool:
        which = n % 4
        body = request_body(point(*centres[which], id=f"p{n}"), url=images[which], task=which)
        mask = mask_of(answered(app.test_client(), body))
        truth = disc(centres[which], 18)[..., 0] > 100
        return bool((mask & truth).sum() > 0.7 * (mask | truth).sum())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(80)))


def test_what_was_predicted_is_recorded(serve: Serve) -> None:
    client, services = serve()
    result = answered(client, request_body(point(40, 40), point(45, 40, id="p2")))
    services.recorder.close()
    (recorded,) = services.ledger.predictions(3, 7)
    assert recorded.region == result["result"][0]["id"]  # type: ignore[index]
    assert (recorded.clicks, recorded.prompt, recorded.version) == (2, "click", services.versions.base)
    assert recorded.score == pytest.approx(result["score"])
