"""An existing mask, corrected in place."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from maskloop.labelstudio.regions import region_id

from .desk import CAT, CORRECT, START, Desk
from .made import annotation, body, box, brush, draft, mask, point, prediction

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
    found = Desk(CORRECT).mask(body(box("b1", 8, 6, 40, 30), **sources("drafts", MINE)))
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
