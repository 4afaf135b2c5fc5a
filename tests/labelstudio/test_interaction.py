"""The gestures, on bodies of our own and on recorded ones."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from maskloop.labelstudio import rle
from maskloop.labelstudio.interaction import GestureOptions, Interaction, Nothing, interpret, opened
from maskloop.labelstudio.memory import LocalMemory
from maskloop.labelstudio.regions import region_id
from maskloop.labelstudio.requests import parse_predict
from maskloop.segment.prompt import Box, Mask, Point

from .made import CONFIG, POLYGONS, annotation, batch, body, box, brush, draft, fixture, mask, point, prediction, task
from .made import recorded as recorded_body

DEFAULT = GestureOptions()
CORRECT = GestureOptions(correct_in_place=True)
OFF = GestureOptions(box_memory_seconds=0)
START = 1_000_000.0
CAT = mask(10, 10, 40, 40)


class Desk:
    """A backend with its memory and a clock."""

    def __init__(self, options: GestureOptions = DEFAULT) -> None:
        self.now = START
        self.memory = LocalMemory(clock=lambda: self.now)
        self.options = options

    def ask(self, sent: Any, after: float = 1.0) -> Interaction | Nothing:
        self.now += after
        return interpret(parse_predict(sent), self.memory, self.options, now=self.now)

    def mask(self, sent: Any, after: float = 1.0, answered: Mask | None = None) -> Interaction:
        """Ask, and remember an answer a moment later."""
        found = self.ask(sent, after)
        assert isinstance(found, Interaction), found
        self.now += 0.1
        found.remember(self.memory, rle.encode(CAT if answered is None else answered), now=self.now)
        return found

    def nothing(self, sent: Any, after: float = 1.0) -> Nothing:
        found = self.ask(sent, after)
        assert isinstance(found, Nothing), found
        return found


# One kind of prompt


def test_clicks_accumulate_and_keep_the_region() -> None:
    desk = Desk()
    first = desk.mask(body(point("p1", 16, 24)))
    both = desk.mask(body(point("p1", 16, 24), point("p2", 40, 12, False)))
    assert first.prompt.points == (Point(16, 24, True),)
    assert both.prompt.points == (Point(16, 24, True), Point(40, 12, False))
    assert first.target.id == both.target.id == region_id(7, "p1")
    assert both.target.label == "Cat"
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


# A box, corrected by clicks

DRAWN = box("b1", 8, 6, 40, 30)
INSIDE = point("p1", 16, 24, False)


def test_the_draft_holds_the_box() -> None:
    found = Desk(OFF).mask(fixture("click_in_drafted_box"))
    assert found.prompt.box is not None
    assert found.prompt.points == (Point(16, 24, False),)
    assert found.target.id == region_id(7, "b1")
    assert found.parts == {"p1"}


def test_memory_bridges_the_seconds_before_the_draft() -> None:
    desk = Desk()
    drawn = desk.mask(body(DRAWN))
    found = desk.mask(body(INSIDE))
    assert found.prompt.box == drawn.prompt.box
    assert found.prompt.points == (Point(16, 24, False),)
    assert found.target.id == drawn.target.id


def test_the_decision_sticks_as_long_as_the_first_point_is_there() -> None:
    desk = Desk()
    desk.mask(body(DRAWN))
    desk.mask(body(INSIDE))
    late = desk.mask(body(INSIDE, point("p2", 60, 46)), after=600)
    assert late.prompt.box is not None
    assert len(late.prompt.points) == 2
    alone = Desk()
    alone.mask(body(INSIDE | {"is_positive": True}))
    alone.mask(body(DRAWN))
    assert alone.mask(body(INSIDE | {"is_positive": True}, point("p2", 20, 20))).prompt.box is None


def test_a_click_inside_while_the_box_is_still_being_answered() -> None:
    desk = Desk()
    drawn = desk.ask(body(DRAWN))
    found = desk.mask(body(INSIDE), after=0.5)
    assert found.prompt.box is not None
    assert isinstance(drawn, Interaction)
    drawn.remember(desk.memory, b"", now=desk.now + 0.1)
    accepted = desk.mask(body(point("p2", 20, 20)), after=0.5)
    assert Point(16, 24, False) in accepted.prompt.points


def test_a_late_answer_does_not_bring_an_older_box_back() -> None:
    desk = Desk()
    older = desk.ask(body(DRAWN))
    desk.mask(body(box("b2", 42, 32, 60, 46)))
    assert isinstance(older, Interaction)
    older.remember(desk.memory, b"", now=desk.now)
    assert desk.mask(body(point("p", 50, 40))).target.id == region_id(7, "b2")


@pytest.mark.parametrize(
    ("options", "after", "where"),
    [
        (GestureOptions(), 7.2, (16, 24)),
        (OFF, 1.0, (16, 24)),
        (GestureOptions(), 1.0, (60, 24)),
    ],
    ids=["too late", "switched off", "outside"],
)
def test_a_click_that_is_not_about_the_box(options: GestureOptions, after: float, where: tuple[int, int]) -> None:
    desk = Desk(options)
    desk.mask(body(DRAWN))
    found = desk.mask(body(point("p1", *where)), after=after)
    assert found.prompt.box is None
    assert found.target.id == region_id(7, "p1")


def test_a_click_near_the_box_is_about_it() -> None:
    desk = Desk()
    desk.mask(body(DRAWN))
    assert desk.mask(body(point("p1", 47, 24))).prompt.box is not None


@pytest.mark.parametrize("change", ["label", "task", "project"])
def test_another_label_task_or_project_has_its_own_boxes(change: str) -> None:
    desk = Desk()
    desk.mask(body(DRAWN))
    sent = body(point("p1", 16, 24, label="Dog" if change == "label" else "Cat"))
    if change == "task":
        sent["tasks"][0]["id"] = 8
    if change == "project":
        sent["tasks"][0]["project"] = 4
    assert desk.mask(sent).prompt.box is None


def test_with_auto_accept_every_click_refines_the_same_region() -> None:
    desk = Desk()
    drawn = desk.mask(body(DRAWN))
    first = desk.mask(body(INSIDE))
    second = desk.mask(body(point("p2", 20, 20)))
    accepted = draft(brush(drawn.target.id, CAT), at=START + 5)
    third = desk.mask(body(point("p3", 12, 20), drafts=[accepted]), after=2)
    assert {drawn.target.id, first.target.id, second.target.id, third.target.id} == {region_id(7, "b1")}
    assert third.prompt.box == drawn.prompt.box
    assert third.prompt.points == (Point(16, 24, False), Point(20, 20), Point(12, 20))


class TestTwoPeople:
    """Label Studio sends the drafts of whoever clicks, and says nothing else about them."""

    def test_bob_has_a_draft_and_the_box_came_without(self) -> None:
        desk = Desk()
        desk.mask(body(DRAWN))
        other = draft(brush("m", mask(1, 1, 5, 5)), user="bob@x", at=START - 60)
        assert desk.mask(body(INSIDE | {"is_positive": True}, drafts=[other])).prompt.box is None

    def test_ann_had_a_draft_and_the_click_comes_without(self) -> None:
        desk = Desk()
        desk.mask(body(DRAWN, drafts=[draft(user="ann@x", at=START - 60)]))
        assert desk.mask(body(point("p", 16, 24))).prompt.box is None

    def test_both_have_drafts(self) -> None:
        desk = Desk()
        desk.mask(body(DRAWN, drafts=[draft(user="ann@x", at=START - 60)]))
        assert desk.mask(body(point("p", 16, 24), drafts=[draft(user="bob@x", at=START - 60)])).prompt.box is None

    def test_a_newer_draft_of_the_same_person_without_the_box(self) -> None:
        desk = Desk()
        desk.mask(body(DRAWN, drafts=[draft(user="ann@x", at=START - 60)]))
        saved = draft(user="ann@x", at=START + 4)
        assert desk.mask(body(point("p", 16, 24), drafts=[saved]), after=4).prompt.box is None

    def test_an_unchanged_draft_of_the_same_person(self) -> None:
        desk = Desk()
        same = draft(user="ann@x", at=START - 60)
        desk.mask(body(DRAWN, drafts=[same]))
        assert desk.mask(body(point("p", 16, 24), drafts=[same])).prompt.box is not None

    def test_two_people_on_one_task_switch_the_memory_off_for_the_project(self) -> None:
        desk = Desk()
        for user in ("ann@x", "bob@x"):
            desk.mask(body(point(user, 60, 40), drafts=[draft(user=user)]))
        desk.mask(body(DRAWN), after=60)
        assert desk.mask(body(point("p", 16, 24))).prompt.box is None
        drafted = draft(DRAWN, user="ann@x", at=desk.now)
        assert desk.mask(body(point("q", 16, 24), drafts=[drafted])).prompt.box is not None

    def test_a_task_that_was_opened_twice_may_be_open_on_two_desks(self) -> None:
        desk = Desk()
        opening = parse_predict(batch(task(7)))
        for at in (0.0, 1.5):
            opened(opening, desk.memory, now=START + at)
        desk.now += 20
        desk.mask(body(DRAWN))
        assert desk.mask(body(INSIDE)).prompt.box is not None, "Label Studio asks twice for one opening"
        opened(opening, desk.memory, now=desk.now)
        desk.mask(body(DRAWN))
        assert desk.mask(body(point("p", 16, 24))).prompt.box is None
        mine = draft(user="ann@x", at=START - 60)
        desk.mask(body(DRAWN, drafts=[mine]))
        assert desk.mask(body(point("q", 16, 24), drafts=[mine])).prompt.box is not None

    def test_a_batch_of_many_tasks_opens_none(self) -> None:
        desk = Desk()
        for at in (0, 60):
            opened(parse_predict(batch(task(7), task(8))), desk.memory, now=START + at)
        desk.mask(body(DRAWN))
        assert desk.mask(body(INSIDE)).prompt.box is not None

    def test_parts_never_name_what_another_person_may_have_drawn(self) -> None:
        desk = Desk()
        desk.mask(body(DRAWN))
        assert desk.mask(body(INSIDE)).parts == {"p1"}


@pytest.mark.parametrize(
    ("before", "joined"),
    [
        ({"drafts": [draft(DRAWN)]}, True),
        ({"drafts": [draft(box("b1", 8, 6, 40, 30, "Dog"))]}, False),
        ({"drafts": [draft(DRAWN)], "predictions": [prediction(DRAWN)]}, False),
        ({"drafts": [draft(DRAWN)], "annotations": [annotation(DRAWN)]}, False),
        ({"drafts": [draft(box("b1", 8, 6, 40, 30, origin="prediction"))]}, False),
        ({"drafts": [draft(DRAWN, brush(region_id(7, "b1"), CAT))]}, False),
        ({"drafts": [], "annotations": [annotation(DRAWN)]}, False),
    ],
    ids=["pending", "other label", "predicted", "submitted", "from a prediction", "accepted", "annotation only"],
)
def test_only_a_pending_box_of_the_draft_is_joined(before: dict[str, Any], joined: bool) -> None:
    found = Desk(OFF).mask(body(point("p1", 16, 24), **before))
    assert (found.prompt.box is not None) == joined


def test_of_two_boxes_in_the_draft_the_later_one_around_the_click() -> None:
    boxes = [box("a", 2, 2, 30, 30), box("b", 10, 10, 40, 40), box("c", 44, 30, 60, 46)]
    found = Desk(OFF).mask(body(point("p1", 20, 20), drafts=[draft(*boxes)]))
    assert found.target.id == region_id(7, "b")


def test_a_rectangle_of_a_tag_that_is_not_smart_is_never_joined() -> None:
    config = CONFIG.replace('name="box" toName="image" smart="true"', 'name="box" toName="image" smart="false"')
    found = Desk(OFF).mask(body(point("p1", 16, 24), config=config, drafts=[draft(DRAWN)]))
    assert found.prompt.box is None


# An existing mask, corrected in place

MINE = brush("r1", CAT, meta={"text": ["note"]}, parentID="outer", score=0.7)
UNDER = point("n1", 20, 20, False)


def sources(kind: str, *result: dict[str, Any], at: float = START - 60) -> dict[str, Any]:
    made = {"drafts": draft(*result, at=at), "annotations": annotation(*result, at=at)}
    return {kind: [made.get(kind, prediction(*result, at=at))]}


@pytest.mark.parametrize("kind", ["drafts", "annotations", "predictions"])
@pytest.mark.parametrize("click", [UNDER, point("p1", 20, 20)], ids=["negative", "positive"])
def test_a_click_on_a_mask_corrects_it(kind: str, click: dict[str, Any]) -> None:
    found = Desk(CORRECT).mask(body(click, **sources(kind, MINE)))
    assert found.target.id == "r1"
    assert found.base is not None
    assert np.array_equal(found.base, CAT)
    assert found.prompt.prior is found.base
    assert found.target.extras == {"meta": {"text": ["note"]}, "parentID": "outer", "origin": "manual"}


def test_only_where_it_is_switched_on() -> None:
    desk = Desk()
    assert "negative" in desk.nothing(body(UNDER, **sources("drafts", MINE))).reason
    assert desk.mask(body(point("p1", 20, 20), **sources("drafts", MINE))).target.id == region_id(7, "p1")


def test_the_correction_sticks_to_its_base() -> None:
    desk = Desk(CORRECT)
    desk.mask(body(UNDER, **sources("drafts", MINE)), answered=mask(25, 25, 40, 40))
    both = desk.mask(body(UNDER, point("p2", 60, 40), **sources("drafts", MINE)))
    assert both.target.id == "r1"
    assert both.base is not None
    assert np.array_equal(both.base, CAT)
    assert len(both.prompt.points) == 2


def test_a_prediction_that_is_corrected_says_so() -> None:
    predicted = {**MINE, "origin": "prediction"}
    found = Desk(CORRECT).mask(body(UNDER, **sources("predictions", predicted)))
    assert found.target.extras["origin"] == "prediction-changed"


def test_further_results_of_the_region_are_echoed_but_not_the_editors_double() -> None:
    choice = {"id": "r1", "type": "choices", "from_name": "c", "to_name": "image", "value": {"choices": ["x"]}}
    double = {**point("r1", 1, 1), "value": {"rle": [1, 2], "keypointlabels": ["Cat"]}}
    found = Desk(CORRECT).mask(body(UNDER, **sources("drafts", MINE, choice, double)))
    assert found.target.others == (choice,)


def test_the_smallest_mask_of_that_label_under_the_click() -> None:
    result = [brush("big", mask(1, 1, 60, 46)), brush("small", mask(15, 15, 25, 25)), brush("dog", CAT, "Dog")]
    assert Desk(CORRECT).mask(body(UNDER, **sources("drafts", *result))).target.id == "small"


def test_a_positive_click_outside_every_mask_is_a_new_region() -> None:
    assert Desk(CORRECT).mask(body(point("p1", 60, 45), **sources("drafts", MINE))).target.id == region_id(7, "p1")


def test_a_box_over_a_mask_is_a_new_region() -> None:
    found = Desk(CORRECT).mask(body(DRAWN, **sources("drafts", MINE)))
    assert (found.target.id, found.base) == (region_id(7, "b1"), None)


TOUCHED = {**MINE, "value": {**MINE["value"], "touches": [{"type": "eraser", "relativePoints": [1, 1]}]}}
UNSAVED = {**MINE, "value": {**MINE["value"], "maskDataURL": "data:image/png;base64,AA"}}
RELATION = {"type": "relation", "from_id": "r1", "to_id": "r2"}


@pytest.mark.parametrize(
    ("existing", "reason"),
    [
        ({"drafts": [draft(MINE, RELATION)]}, "relation"),
        ({"drafts": [draft(TOUCHED)]}, "strokes"),
        ({"drafts": [draft(UNSAVED)]}, "strokes"),
        ({"annotations": [annotation(MINE), annotation(MINE, id=2)]}, "several annotations"),
        (
            {"annotations": [annotation(MINE)], "predictions": [prediction(brush("r1", mask(9, 9, 42, 42)))]},
            "different masks",
        ),
    ],
)
@pytest.mark.parametrize("click", [UNDER, point("p1", 20, 20)], ids=["negative", "positive"])
def test_refused_where_the_editor_would_break_or_strokes_be_lost(
    existing: dict[str, Any], reason: str, click: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = Desk(CORRECT).nothing(body(click, **existing))
    assert found.refused
    assert reason in found.reason
    assert "r1" in caplog.text


@pytest.mark.parametrize(
    "existing",
    [
        {"drafts": [draft({**MINE, "value": {"format": "rle", "rle": None, "brushlabels": ["Cat"]}})]},
        {"drafts": [draft({**MINE, "value": {"format": "rle", "rle": [1, 2, 3], "brushlabels": ["Cat"]}})]},
        {"drafts": [draft({**MINE, "original_width": 65})]},
        {"drafts": [draft()], "annotations": [annotation(MINE)]},
    ],
    ids=["no RLE", "broken RLE", "other size", "not in the own draft"],
)
def test_masks_that_are_not_there_are_not_corrected(existing: dict[str, Any]) -> None:
    assert "negative" in Desk(CORRECT).nothing(body(UNDER, **existing)).reason


def test_a_mask_accepted_a_moment_ago_is_not_in_the_draft_yet() -> None:
    desk = Desk(CORRECT)
    first = desk.mask(body(point("p1", 20, 20)))
    found = desk.mask(body(UNDER))
    assert found.target.id == first.target.id
    assert found.base is not None
    assert np.array_equal(found.base, CAT)


def test_an_answer_newer_than_the_draft_is_the_base() -> None:
    desk = Desk(CORRECT)
    smaller = mask(10, 10, 40, 30)
    stale = sources("drafts", MINE)
    desk.mask(body(UNDER, **stale), answered=smaller)
    again = desk.mask(body(point("n2", 12, 12, False), **stale))
    assert again.base is not None
    assert np.array_equal(again.base, smaller)


def test_a_draft_saved_after_the_answer_is_the_base() -> None:
    desk = Desk(CORRECT)
    desk.mask(body(UNDER, **sources("drafts", MINE)), answered=mask(10, 10, 40, 30))
    rejected = sources("drafts", MINE, at=desk.now + 3)
    again = desk.mask(body(point("n2", 12, 12, False), **rejected), after=4)
    assert again.base is not None
    assert np.array_equal(again.base, CAT)


def test_answers_are_forgotten_and_never_anothers() -> None:
    desk = Desk(CORRECT)
    desk.mask(body(point("p1", 20, 20)))
    assert "negative" in desk.nothing(body(UNDER), after=7.1).reason
    desk.mask(body(point("p2", 20, 20), drafts=[draft(user="ann@x", at=START - 60)]))
    assert "negative" in desk.nothing(body(UNDER, drafts=[draft(user="bob@x", at=START - 60)])).reason


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
