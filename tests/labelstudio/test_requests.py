from __future__ import annotations

import json
from typing import Any

import pytest

from maskloop.labelstudio.requests import BadRequest, Limits, parse_predict, project_id
from maskloop.labelstudio.shapes import Brush, Polygon
from maskloop.segment.prompt import Box, Point

from .made import (
    CONFIG,
    SIZE,
    annotation,
    batch,
    body,
    box,
    brush,
    draft,
    fixture,
    mask,
    point,
    prediction,
    recorded,
    task,
)

RECORDED = {
    "predict_keypoint_positive": ("/data/upload/1/d1959bc0-astro_rect.jpg", 1),
    "predict_keypoint_two_positive": ("/data/upload/1/d1959bc0-astro_rect.jpg", 2),
    "predict_keypoint_negative": ("/data/upload/1/d1959bc0-astro_rect.jpg", 3),
    "predict_rectangle": ("/data/upload/1/d1959bc0-astro_rect.jpg", 1),
    "predict_keypoint_local_files": ("/data/local-files/?d=", 1),
    "predict_empty_context_result": ("/data/upload/1/d1959bc0-astro_rect.jpg", 0),
}


@pytest.mark.parametrize(("name", "expected"), RECORDED.items())
def test_recorded_clicks(name: str, expected: tuple[str, int]) -> None:
    request = parse_predict(recorded(name))
    url, prompts = expected
    assert request.interactive
    assert request.project == int(recorded(name)["project"].split(".")[0])
    assert len(request.tasks) == 1
    assert request.tasks[0].image_url.startswith(url)
    assert request.tasks[0].problem is None
    assert request.context is not None
    assert len(request.context) == prompts


@pytest.mark.parametrize(("name", "tasks"), [("predict_batch_on_task_open", 1), ("predict_batch_three_tasks", 3)])
def test_recorded_batches_have_no_context(name: str, tasks: int) -> None:
    request = parse_predict(recorded(name))
    assert not request.interactive
    assert request.context is None
    assert [t.id for t in request.tasks] == [t["id"] for t in recorded(name)["tasks"]]
    assert len(request.tasks) == tasks


def test_recorded_sizes_are_those_of_the_upright_unrotated_image() -> None:
    exif = parse_predict(recorded("predict_keypoint_exif_orientation6")).context
    turned = parse_predict(recorded("predict_rectangle_rotated_image")).context
    assert exif is not None
    assert turned is not None
    assert exif[0].size == (400, 512)
    assert turned[-1].size == (512, 512)
    assert turned[-1].shape == Box(
        pytest.approx(51.14, abs=0.01),
        pytest.approx(102.29, abs=0.01),
        pytest.approx(204.58, abs=0.01),
        pytest.approx(204.58, abs=0.01),
    )


def test_a_recorded_draft_with_eraser_strokes_is_read() -> None:
    request = parse_predict(recorded("gestures/draft_with_eraser_touches"))
    own = request.tasks[0].draft
    assert own is not None
    assert own.user == "admin@example.com"
    shape = own.regions[0].shape
    assert isinstance(shape, Brush)
    assert shape.rle is not None
    assert [stroke.eraser for stroke in shape.strokes] == [True]
    assert shape.strokes[0].width == pytest.approx(640 * 0.0115, rel=0.01)


def test_a_click_of_our_own() -> None:
    request = parse_predict(fixture("click"))
    assert request.context is not None
    assert [region.shape for region in request.context] == [Point(16, 24, True), Point(40, 12, False)]
    assert [region.label for region in request.context] == ["Cat", "Cat"]
    assert request.project == 3


def test_sources_with_their_people() -> None:
    request = parse_predict(
        body(
            point("p", 5, 5),
            drafts=[draft(box("b", 1, 1, 9, 9), user="a@x", at=50), draft(user="a@x", at=60, id=2)],
            annotations=[annotation(brush("m", mask(2, 2, 9, 9)), by=4)],
            predictions=[prediction(brush("n", mask(3, 3, 9, 9)))],
        )
    )
    only = request.tasks[0]
    assert only.draft is not None
    assert (only.draft.id, only.draft.updated) == (2, 60.0)
    assert only.annotations[0].user == "4"
    assert only.annotations[0].regions[0].label == "Cat"
    assert only.predictions[0].version == "v1"


def test_relations_name_their_regions() -> None:
    relation = {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"}
    request = parse_predict(body(point("p", 5, 5), annotations=[annotation(relation, brush("a", mask(1, 1, 4, 4)))]))
    source = request.tasks[0].annotations[0]
    assert source.related == {"a", "b"}
    assert [region.id for region in source.regions] == ["a"]


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (None, "not a JSON object"),
        ("task", "not a JSON object"),
        ({"id": 5}, "no data"),
        ({"id": 5, "data": []}, "no data"),
        ({"id": 5, "data": {}}, "no image"),
        ({"id": 5, "data": {"image": None}}, "no image"),
        ({"id": 5, "data": {"image": ["a.png", "b.png"]}}, "list of images"),
    ],
)
def test_a_broken_task_costs_its_own_entry_only(broken: Any, problem: str) -> None:
    request = parse_predict(batch(task(1), broken, task(2)))
    assert [t.problem is None for t in request.tasks] == [True, False, True]
    assert problem in str(request.tasks[1].problem)


def test_tasks_of_a_config_without_images_or_masks_say_so() -> None:
    assert "no <Image>" in str(parse_predict(batch(task(), config="<View/>")).tasks[0].problem)
    only_image = '<View><Image name="image" value="$image"/></View>'
    assert "no tag for masks" in str(parse_predict(batch(task(), config=only_image)).tasks[0].problem)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (None, "not a JSON object"),
        ([], "not a JSON object"),
        ("{}", "not a JSON object"),
        ({}, "label_config is missing"),
        ({"label_config": CONFIG}, "tasks is missing"),
        ({"label_config": CONFIG, "tasks": {}}, "tasks is missing"),
        ({"label_config": "<View", "tasks": []}, "not XML"),
        ({"label_config": 5, "tasks": []}, "label_config is missing"),
        ({**body(), "project": "x"}, "project is"),
        ({**body(), "project": {"id": 1}}, "project is"),
        ({**body(), "params": []}, "params is not"),
        ({**body(), "params": {"context": []}}, "params.context is not"),
        ({**body(), "params": {"context": {"result": {}}}}, "not a list"),
        (body("x"), "not a JSON object"),  # type: ignore[arg-type]
        (body({**point("p", 1, 1), "id": None}), "no id"),
        (body({**point("p", 1, 1), "original_width": 0}), "no usable original_width"),
        (body({**point("p", 1, 1), "original_width": 1e9, "original_height": 1e9}), "no usable original_width"),
        (body({**point("p", 1, 1), "value": {"x": "1", "y": 2}}), "no usable coordinates"),
        (body({**point("p", 1, 1), "value": {"x": float("nan"), "y": 2}}), "no usable coordinates"),
        (body({**box("b", 1, 1, 5, 5), "value": {"x": 1, "y": 1, "width": 3}}), "no usable coordinates"),
        (body({**point("p", 1, 1), "value": None}), "no usable coordinates"),
    ],
)
def test_a_malformed_body_is_refused_with_the_reason(wrong: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        parse_predict(wrong)


def test_floods_are_refused() -> None:
    with pytest.raises(BadRequest, match="MASKLOOP_MAX_TASKS"):
        parse_predict(batch(*[task(i) for i in range(4)]), Limits(max_tasks=3))
    with pytest.raises(BadRequest, match="at most 2"):
        parse_predict(body(*[point(str(i), i, i) for i in range(3)]), Limits(max_prompts=2))


@pytest.mark.parametrize("params", [None, {}, {"context": None}, {"context": {}}])
def test_no_context_is_a_batch(params: Any) -> None:
    assert parse_predict({**batch(task()), "params": params}).context is None


def test_an_empty_context_is_no_batch() -> None:
    assert parse_predict(body()).context == ()


@pytest.mark.parametrize(("x", "y"), [(-5, -5), (100, 100), (100.0001, 1e6)])
def test_a_click_beyond_the_border_belongs_to_the_border(x: float, y: float) -> None:
    raw = point("p", 1, 1)
    raw["value"].update(x=x, y=y)
    context = parse_predict(body(raw)).context
    assert context is not None
    shape = context[0].shape
    assert isinstance(shape, Point)
    assert 0 <= int(shape.x) < SIZE[0]
    assert 0 <= int(shape.y) < SIZE[1]


def boxed(**value: float) -> Box:
    raw = box("b", 10, 10, 20, 20)
    raw["value"].update(value)
    context = parse_predict(body(raw)).context
    assert context is not None
    assert isinstance(context[0].shape, Box)
    return context[0].shape


def test_boxes_are_upright_inside_the_image_and_never_empty() -> None:
    assert boxed() == Box(pytest.approx(10), pytest.approx(10), pytest.approx(20), pytest.approx(20))
    assert boxed(x=50, y=50, width=100, height=100) == Box(32, 24, 64, 48)
    # Rotated by 90 degrees around its top left corner, a box lies to the left of it.
    turned = boxed(x=50, y=50, width=25, height=25, rotation=90)
    assert turned == Box(pytest.approx(20), pytest.approx(24), pytest.approx(32), pytest.approx(40))
    flat = boxed(width=0, height=0)
    assert [flat.x1 - flat.x0, flat.y1 - flat.y0] == pytest.approx([1, 1])
    assert boxed(x=200, y=200) == Box(63, 47, 64, 48)


def test_polygons_of_an_annotation_are_pixels() -> None:
    polygon = {
        **brush("q", mask(1, 1, 2, 2)),
        "type": "polygonlabels",
        "value": {"points": [[0, 0], [50, 0], [50, 100], ["x", 1]], "polygonlabels": ["Cat"]},
    }
    shape = (
        parse_predict(body(point("p", 1, 1), annotations=[annotation(polygon)]))
        .tasks[0]
        .annotations[0]
        .regions[0]
        .shape
    )
    assert shape == Polygon(((0, 0), (32, 0), (32, 48)))


@pytest.mark.parametrize(
    ("value", "number"), [("1.1795417656", 1), ("12", 12), (7, 7), (7.5, 7), (None, None), ("", None)]
)
def test_project_ids(value: Any, number: int | None) -> None:
    assert project_id(value) == number


def test_bodies_of_our_own_are_what_json_makes_of_them() -> None:
    assert json.loads(json.dumps(body(point("p", 1, 1)))) == body(point("p", 1, 1))
