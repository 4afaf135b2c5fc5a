from __future__ import annotations

from typing import Any

import pytest

from maskloop.labelstudio import rle
from maskloop.labelstudio.events import (
    Deleted,
    Ignored,
    ProjectUpdated,
    StartTraining,
    Submitted,
    TasksCreated,
    TasksDeleted,
    parse_event,
)
from maskloop.labelstudio.requests import BadRequest
from maskloop.labelstudio.shapes import Brush

from .made import CONFIG, annotation, box, brush, fixture, mask, point, recorded, task

CAT = mask(10, 10, 40, 40)
PROJECT = {"id": 3, "label_config": CONFIG}


def event(action: str, **more: Any) -> dict[str, Any]:
    return {"action": action, "project": PROJECT, **more}


def submitted(body: Any) -> Submitted:
    found = parse_event(body)
    assert isinstance(found, Submitted)
    return found


def test_a_submission_of_our_own() -> None:
    found = submitted(fixture("annotation_created"))
    (only,) = found.annotations
    assert (only.id, only.task, only.project, only.completed_by) == (11, 7, 3, 1)
    assert only.data == {"image": "/data/upload/3/cat.png"}
    assert [region.id for region in only.masks] == ["m1"]
    assert {left.region: left.reason for left in only.left_out} == {
        "p9": "a prompt whose mask was not accepted",
        "m2": "no label",
    }
    assert found.label_config == CONFIG


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("webhook_annotation_created", {2: 4}),
        ("webhook_annotation_created_brush_strokes", {10: 2}),
        ("webhook_annotation_created_pending_prompts", {1: 0}),
        ("webhook_annotation_created_skipped", {4: 0}),
        ("webhook_annotation_updated", {2: 3}),
        ("webhook_annotations_created_bulk", {5: 1, 6: 1}),
    ],
)
def test_recorded_submissions(name: str, expected: dict[int, int]) -> None:
    found = submitted(recorded(name))
    assert {only.id: len(only.masks) for only in found.annotations} == expected
    assert all(only.data["image"] for only in found.annotations)
    assert all(only.updated > 1_700_000_000 for only in found.annotations)
    assert all(only.was_cancelled == name.endswith("skipped") for only in found.annotations)


def test_recorded_strokes_are_masks_of_at_least_half_alpha() -> None:
    (only,) = submitted(recorded("webhook_annotation_created_brush_strokes")).annotations
    touched = only.masks[-1]
    assert isinstance(touched.shape, Brush)
    assert touched.shape.rle is not None
    size = touched.size[::-1]
    alpha = rle.decode(touched.shape.rle, size)
    assert len(set(alpha.reshape(-1).tolist())) > 2, "the recording has anti-aliased edges"
    assert (rle.decode_mask(touched.shape.rle, size) == (alpha >= 128)).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("webhook_annotations_deleted", Deleted(1, (1,))),
        ("webhook_tasks_created", TasksCreated(2, (3, 4))),
        ("webhook_tasks_deleted", TasksDeleted(2, (3,))),
        ("webhook_start_training", StartTraining(2)),
    ],
)
def test_other_recorded_events(name: str, expected: Any) -> None:
    assert parse_event(recorded(name)) == expected


def test_a_recorded_project_update_carries_its_config() -> None:
    found = parse_event(recorded("webhook_project_updated"))
    assert isinstance(found, ProjectUpdated)
    assert found.project == 2
    assert "BrushLabels" in str(found.label_config)


def test_deletions_in_the_plural_and_the_singular() -> None:
    assert parse_event(fixture("annotations_deleted")) == Deleted(3, (11, 12))
    assert parse_event(event("ANNOTATION_DELETED", annotation={"id": 5})) == Deleted(3, (5,))
    assert parse_event({"action": "TASKS_DELETED", "tasks": [{"id": 1}, {"id": 2}]}) == TasksDeleted(None, (1, 2))


def left_out(*result: dict[str, Any]) -> dict[str, str]:
    raw = {**annotation(*result), "task": 7}
    (only,) = submitted(event("ANNOTATION_UPDATED", annotation=raw, task=task())).annotations
    return {left.region: left.reason for left in only.left_out}


def test_what_is_no_mask_is_left_out_with_the_reason() -> None:
    double = {**point("m1", 1, 1), "value": {"rle": [1, 2], "keypointlabels": ["Cat"]}}
    unsaved = {**brush("u", CAT), "value": {"format": "rle", "rle": None, "touches": [{}], "brushlabels": ["Cat"]}}
    sizeless = {**brush("z", CAT), "original_width": None}
    relation = {"type": "relation", "from_id": "a", "to_id": "b"}
    choices = {"id": "c", "type": "choices", "value": {"choices": ["x"]}}
    reasons = left_out(brush("ok", CAT), double, unsaved, sizeless, relation, choices, box("b", 1, 1, 5, 5))
    assert "selected" in reasons["m1"]
    assert reasons["u"] == "no mask data"
    assert reasons["z"] == "no usable image size"
    assert reasons["c"] == reasons["b"] == "not a mask"
    assert set(reasons) == {"m1", "u", "z", "c", "b"}


def test_polygons_are_masks() -> None:
    polygon = {
        **brush("q", CAT),
        "type": "polygonlabels",
        "value": {"points": [[0, 0], [50, 0], [50, 100]], "polygonlabels": ["Cat"]},
    }
    assert left_out(polygon) == {}
    polygon["value"] = {"points": [[0, 0], [50, 0]], "polygonlabels": ["Cat"]}
    assert left_out(polygon) == {"q": "no mask data"}


def test_an_unknown_action_is_ignored() -> None:
    assert parse_event(event("LABEL_LINK_CREATED")) == Ignored("LABEL_LINK_CREATED")


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"action": 5},
        event("ANNOTATION_CREATED", annotation={"id": None, "task": 1}),
        event("ANNOTATION_CREATED", annotation={"id": True, "task": 1}),
        {"action": "ANNOTATION_CREATED", "annotation": {"id": 1, "task": 1}},
        {"action": "START_TRAINING", "project": {}},
        {"action": "START_TRAINING", "project": {"id": "x"}},
        event("ANNOTATIONS_DELETED", annotations=[]),
    ],
)
def test_what_label_studio_never_sends_is_refused(body: Any) -> None:
    with pytest.raises(BadRequest):
        parse_event(body)


def test_an_annotation_with_odd_fields_is_still_one() -> None:
    raw = {"id": 1, "task": {"id": 7}, "result": "x", "completed_by": {"id": 4}, "updated_at": 5}
    (only,) = submitted(event("ANNOTATION_CREATED", annotation=raw)).annotations
    assert (only.task, only.completed_by, only.updated_at, only.regions) == (7, 4, "", ())
