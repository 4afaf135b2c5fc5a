"""A box, corrected by clicks."""

from __future__ import annotations

from typing import Any

import pytest

from maskloop.labelstudio.interaction import GestureOptions, Interaction, opened
from maskloop.labelstudio.regions import region_id
from maskloop.labelstudio.requests import parse_predict
from maskloop.segment.prompt import Point

from .desk import CAT, OFF, START, Desk
from .made import CONFIG, annotation, batch, body, box, brush, draft, fixture, mask, point, prediction, task

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
