"""One kind of prompt, on bodies of our own and on recorded ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from maskloop.labelstudio import interaction
from maskloop.labelstudio.regions import region_id
from maskloop.segment.prompt import Box, Point

from .desk import CAT, CORRECT, Desk
from .made import CONFIG, POLYGONS, batch, body, box, brush, fixture, point
from .made import recorded as recorded_body


def test_clicks_accumulate_and_keep_the_region() -> None:
    desk = Desk()
    first = desk.mask(body(point("p1", 16, 24)))
    both = desk.mask(body(point("p1", 16, 24), point("p2", 40, 12, False)))
    assert first.prompt.points == (Point(16, 24, True),)
    assert both.prompt.points == (Point(16, 24, True), Point(40, 12, False))
    assert first.target.id == both.target.id == region_id(7, "p1")
    assert both.target.label == both.prompt.label == "Cat"
    assert (both.target.from_name, both.target.to_name, both.target.type) == ("brush", "image", "brushlabels")
    assert both.target.size == (64, 48)
    assert first.group == both.group
    assert first.parts < both.parts == {"p1", "p2"}


def test_a_box_is_a_box() -> None:
    found = Desk().mask(fixture("box"))
    box_ = found.prompt.box
    assert box_ is not None
    assert (box_.x0, box_.y0, box_.x1, box_.y1) == pytest.approx((8, 6, 40, 30))
    assert found.target.id == region_id(7, "b1")
    assert found.parts == {"b1"}


def test_of_several_boxes_the_last_is_meant() -> None:
    found = Desk().mask(body(box("ordinary", 1, 1, 9, 9), box("b2", 20, 20, 40, 40)))
    assert found.prompt.box is not None
    assert found.prompt.box.x0 == pytest.approx(20)
    assert found.target.id == region_id(7, "b2")
    assert found.parts == {"b2"}


def test_ordinary_points_are_no_prompts() -> None:
    desk = Desk()
    found = desk.mask(body(point("ordinary", 3, 3, None), point("p1", 16, 24)))
    assert found.prompt.points == (Point(16, 24),)
    assert "ordinary" in desk.nothing(body(point("ordinary", 3, 3, None))).reason


@pytest.mark.parametrize("sent", [batch(), body(), {**body(point("p", 1, 1)), "tasks": []}])
def test_without_a_prompt_or_a_task_there_is_nothing_to_do(sent: Any) -> None:
    assert not Desk().nothing(sent).refused


def test_a_negative_click_alone_draws_nothing_but_does_not_spoil_the_next() -> None:
    desk = Desk()
    assert "negative" in desk.nothing(body(point("n", 5, 5, False))).reason
    found = desk.mask(body(point("n", 5, 5, False), point("p", 20, 20)))
    assert found.prompt.points == (Point(5, 5, False), Point(20, 20, True))


def test_a_label_that_the_brush_lacks_leaves_the_mask_unlabelled() -> None:
    config = CONFIG.replace('<Label value="Dog"/></BrushLabels>', '<Label value="Cow"/></BrushLabels>')
    assert Desk().mask(body(point("p", 1, 1, label="Dog"), config=config)).target.label is None
    assert Desk().mask(body(point("p", 1, 1, label="Cat"), config=config)).target.label == "Cat"


def test_polygons_where_there_is_no_brush() -> None:
    found = Desk().mask(body(point("p", 1, 1), config=POLYGONS))
    assert found.target.polygon
    assert found.target.type == "polygonlabels"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ('<View><Image name="image" value="$image"/></View>', "takes masks"),
        (CONFIG.replace('value="$image"', 'value="$photo"'), "no image"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(config: str, reason: str) -> None:
    found = Desk().nothing(body(point("p", 1, 1), config=config))
    assert found.refused
    assert reason in found.reason


def test_strokes_are_scribbles() -> None:
    touches = [
        {"type": "add", "relativePoints": [10, 50, 60, 50], "relativeStrokeWidth": 6.25},
        {"type": "eraser", "relativePoints": [50, 50, 60, 50], "relativeStrokeWidth": 6.25},
    ]
    stroke = brush("s1", CAT)
    stroke["value"] = {"format": "rle", "rle": None, "touches": touches, "brushlabels": ["Cat"]}
    found = Desk().mask(body(stroke))
    painted, erased = found.prompt.scribbles
    assert (painted.positive, erased.positive) == (True, False)
    assert painted.mask[24, 10]
    assert not painted.mask[24, 36]
    assert erased.mask[24, 36]
    assert not (painted.mask & erased.mask).any()
    assert 60 < painted.mask.sum() < 140


def test_more_strokes_than_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interaction, "MOST_PAINTED", CAT.size)
    assert Desk().mask(body(brush("s1", CAT))).prompt.scribbles
    monkeypatch.setattr(interaction, "MOST_PAINTED", CAT.size - 1)
    refused = Desk().nothing(body(brush("s1", CAT)))
    assert refused.refused
    assert "too many" in refused.reason


def test_a_finished_brush_region_is_a_scribble() -> None:
    (scribble,) = Desk().mask(body(brush("s1", CAT))).prompt.scribbles
    assert np.array_equal(scribble.mask, CAT)
    assert "no object" in Desk().nothing(body({**brush("s1", CAT), "is_positive": False})).reason


def test_a_task_without_an_id_leaves_no_memory() -> None:
    desk = Desk()
    sent = fixture("box")
    sent["tasks"][0]["id"] = None
    desk.mask(sent)
    click = body(point("p", 20, 20))
    click["tasks"][0]["id"] = None
    assert desk.mask(click).prompt.box is None


# Recorded


BOXES = (
    "predict_rectangle",
    "predict_rectangle_rotated_image",
    "predict_two_rectangles_one_ordinary",
    "gestures/box_pending_no_draft_yet",
)
PROMPTLESS = ("predict_empty_context_result", "predict_batch_on_task_open", "predict_batch_three_tasks")


@pytest.mark.parametrize(
    ("name", "points", "id"),
    [
        ("predict_keypoint_positive", 1, None),
        ("predict_keypoint_two_positive", 2, None),
        ("predict_keypoint_negative", 3, None),
        ("predict_keypoint_exif_orientation6", 1, None),
        ("predict_keypoint_rotated_image", 1, None),
        ("predict_keypoint_local_files", 1, None),
        ("predict_with_draft_and_prediction", 1, None),
        ("predict_response_mask_data_url", 1, None),
        ("gestures/ctrl_click_in_box_no_draft_yet", 1, None),
        ("gestures/ctrl_alt_click_in_box_two_points", 2, None),
        ("gestures/positive_outside_draft_has_brush_and_old_point", 1, None),
        ("gestures/user_admin_own_draft_only", 1, None),
        ("gestures/user_bob_own_draft_only", 2, None),
        ("gestures/negative_inside_accepted_draft_has_brush", 1, "st000039"),
        ("gestures/negative_on_submitted_annotation", 1, "st000039"),
        ("gestures/negative_on_preannotation", 1, "preann01"),
        ("gestures/bob_sees_admins_annotation_no_user", 1, None),
    ],
)
def test_recorded_clicks(name: str, points: int, id: str | None) -> None:
    sent = recorded_body(name)
    found = Desk(CORRECT).mask(sent, answered=np.ones((1, 1), bool))
    first = sent["params"]["context"]["result"][0]
    assert len(found.prompt.points) == points
    assert [p.positive for p in found.prompt.points] == [r["is_positive"] for r in sent["params"]["context"]["result"]]
    assert found.target.id == (id or region_id(sent["tasks"][0]["id"], first["id"]))
    assert found.target.size == (first["original_width"], first["original_height"])
    assert found.target.label == first["value"]["keypointlabels"][0]
    if id is not None:
        assert found.base is not None
        x, y = int(found.prompt.points[0].x), int(found.prompt.points[0].y)
        assert found.base.shape == found.target.size[::-1]
        assert found.base[y, x]


@pytest.mark.parametrize("name", BOXES)
def test_recorded_boxes(name: str) -> None:
    sent = recorded_body(name)
    found = Desk().mask(sent)
    last = sent["params"]["context"]["result"][-1]
    value, width, height = last["value"], last["original_width"], last["original_height"]
    x0, y0 = value["x"] * width / 100, value["y"] * height / 100
    expected = (x0, y0, x0 + value["width"] * width / 100, y0 + value["height"] * height / 100)
    box_ = found.prompt.box
    assert isinstance(box_, Box)
    assert (box_.x0, box_.y0, box_.x1, box_.y1) == pytest.approx(expected)
    assert found.parts == {last["id"]}


def test_recorded_box_and_click_of_one_person() -> None:
    desk = Desk()
    drawn = desk.mask(recorded_body("gestures/box_pending_no_draft_yet"))
    found = desk.mask(recorded_body("gestures/ctrl_click_in_box_no_draft_yet"))
    assert found.prompt.box == drawn.prompt.box
    assert found.target.id == drawn.target.id
    both = desk.mask(recorded_body("gestures/ctrl_alt_click_in_box_two_points"))
    assert both.prompt.box == drawn.prompt.box
    assert [p.positive for p in both.prompt.points] == [True, False]


def test_recorded_draft_that_holds_the_box() -> None:
    sent = recorded_body("gestures/point_after_box_draft_holds_box")
    drawn = sent["tasks"][0]["drafts"][0]["result"][0]
    outside = Desk().mask(sent)
    assert outside.prompt.box is None
    value = sent["params"]["context"]["result"][0]["value"]
    value["x"], value["y"] = drawn["value"]["x"] + 5, drawn["value"]["y"] + 5
    inside = Desk().mask(sent)
    assert inside.prompt.box is not None
    assert inside.target.id == region_id(1, drawn["id"])


@pytest.mark.parametrize(
    "name", ["predict_empty_context_result", "predict_batch_on_task_open", "predict_batch_three_tasks"]
)
def test_recorded_requests_without_a_prompt(name: str) -> None:
    assert not Desk().nothing(recorded_body(name)).refused


def test_recorded_eraser_strokes_are_not_lost() -> None:
    assert "strokes" in Desk(CORRECT).nothing(recorded_body("gestures/draft_with_eraser_touches")).reason
