"""What a task already has becomes prompts: boxes and points, of a detector or a person."""

from __future__ import annotations

import base64
import contextvars
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from maskloop.jobs.handlers import build_workbench
from maskloop.jobs.preannotate import PreannotateRequest, plan, preannotate
from maskloop.jobs.proposals import Proposals, write_signatures
from maskloop.jobs.workbench import Workbench
from maskloop.labelstudio.requests import PredictRequest, parse_predict
from maskloop.learn import propose
from maskloop.learn.propose import Proposer
from maskloop.learn.standing import Standing
from maskloop.learn.versions import LIVE
from maskloop.queue.pauses import serve_pauses
from maskloop.segment.card import ModelError
from maskloop.segment.prompt import Box, Image, Point
from maskloop.settings import Settings
from tests.learn.test_propose import picture

CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image"><Label value="Car"/><Label value="Person"/></BrushLabels>
<RectangleLabels name="box" toName="image"><Label value="Car"/></RectangleLabels>
<KeyPointLabels name="point" toName="image"><Label value="Person"/></KeyPointLabels></View>"""


def region(type: str, id: str, label: str, value: dict[str, float], **extra: Any) -> dict[str, Any]:
    name = {"rectanglelabels": "box", "keypointlabels": "point", "brushlabels": "brush"}[type]
    common = {"from_name": name, "to_name": "image", "original_width": 200, "original_height": 100}
    return {"id": id, "type": type, "value": {**value, type: [label]}, **common, **extra}


def box(id: str, label: str = "Car", **value: float) -> dict[str, Any]:
    return region("rectanglelabels", id, label, {"x": 10, "y": 10, "width": 20, "height": 30, "rotation": 0, **value})


def point(id: str, label: str = "Person", x: float = 50, **extra: Any) -> dict[str, Any]:
    return region("keypointlabels", id, label, {"x": x, "y": 50, "width": 0.2}, **extra)


def asked(**task: Any) -> PredictRequest:
    body = {"id": 7, "data": {"image": "/data/upload/1/a.png"}, **task}
    return parse_predict({"project": "3.17", "label_config": CONFIG, "tasks": [body], "params": {"context": None}})


def planned(**task: Any) -> PreannotateRequest | None:
    request = asked(**task)
    return plan(request.tasks[0], request.config, "v1")


def prediction(*results: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {"id": 1, "result": list(results), "model_version": "detector", **extra}


def discs(seed: int) -> Image:
    return picture(seed).pixels


def inline(pixels: Image) -> str:
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()


def learned(folder: Path) -> tuple[Workbench, Proposer]:
    """A workbench, and a proposer of the two labels that bright discs had."""
    bench = build_workbench(Settings(_env_file=None, model="watershed", data_dir=folder))
    segmenter = bench.segmenter(bench.base_version)[1]
    samples = [picture(k, label) for k, label in enumerate(["Person", "Tree"] * 3)]
    return bench, propose.fit(samples, segmenter, lambda s: segmenter.encode(s.pixels), 0, lambda progress: None)


def publish(bench: Workbench, folder: Path, proposer: Proposer, *live: str) -> None:
    shutil.copytree(bench.catalog.folder(bench.model), folder, dirs_exist_ok=True)
    proposer.save(folder, {label: Standing(True, 0.05, 1, 1, 1, 9, "") for label in live})
    (folder / LIVE).write_text(json.dumps(live))


def test_a_detectors_boxes_and_points_each_become_a_wish() -> None:
    request = planned(predictions=[prediction(box("a"), box("b", x=50), point("c"))])
    assert request is not None
    assert (request.task, request.project, request.version, request.size) == (7, 3, "v1", (200, 100))
    assert (request.name, request.to_name, request.type) == ("brush", "image", "brushlabels")
    assert [w.prompt.box for w in request.wishes] == [Box(20, 10, 60, 40), Box(100, 10, 140, 40), None]
    assert request.wishes[2].prompt.points == (Point(100, 50, True),)
    assert [w.label for w in request.wishes] == ["Car", "Car", "Person"]
    assert [w.prompt.label for w in request.wishes] == ["Car", "Car", "Person"]
    assert len({w.id for w in request.wishes}) == 3


def test_a_person_knows_better_than_a_detector() -> None:
    request = planned(annotations=[{"id": 5, "result": [box("mine", x=70)]}], predictions=[prediction(box("a"))])
    assert request is not None
    assert [w.prompt.box for w in request.wishes] == [Box(140, 10, 180, 40)]


def test_the_newest_source_with_prompts_counts() -> None:
    old = prediction(box("old"), updated_at="2026-01-01T00:00:00Z")
    new = prediction(box("new", x=70), updated_at="2026-02-01T00:00:00Z")
    empty = prediction(updated_at="2026-03-01T00:00:00Z")
    request = planned(predictions=[new, empty, old])
    assert request is not None
    assert [w.prompt.box for w in request.wishes] == [Box(140, 10, 180, 40)]


def test_a_task_that_has_masks_is_left_alone() -> None:
    mask = region("brushlabels", "m", "Car", {})
    mask["value"] |= {"format": "rle", "rle": [0, 0]}
    assert planned(annotations=[{"id": 5, "result": [mask, box("a")]}]) is None


def test_smart_points_of_one_label_were_clicks_on_one_object() -> None:
    clicks = [point("a", is_positive=True), point("b", x=60, is_positive=True), point("c", x=90, is_positive=False)]
    request = planned(annotations=[{"id": 5, "result": clicks}])
    assert request is not None
    (wish,) = request.wishes
    assert wish.prompt.points == (Point(100, 50, True), Point(120, 50, True), Point(180, 50, False))


def test_negative_points_alone_ask_for_nothing() -> None:
    assert planned(annotations=[{"id": 5, "result": [point("c", is_positive=False)]}]) is None


def test_the_same_box_twice_is_one_object() -> None:
    request = planned(predictions=[prediction(box("a"), box("b"))])
    assert request is not None
    assert len(request.wishes) == 1


def test_nothing_to_go_by_is_nothing_to_do() -> None:
    assert planned() is None
    assert planned(predictions=[prediction()]) is None
    assert planned(data={"image": ""}, predictions=[prediction(box("a"))]) is None


def test_a_version_proposes_only_labels_that_the_config_has() -> None:
    request = asked()
    todo = plan(request.tasks[0], request.config, "v1", ("Tree", "Person", "car"))
    assert todo is not None
    assert (todo.wishes, todo.labels) == ((), ("Person",))
    assert PreannotateRequest.from_json(todo.to_json()).labels == ("Person",)
    old = {key: value for key, value in todo.to_json().items() if key != "labels"}
    assert PreannotateRequest.from_json(old).labels is None, "of all that are live"
    assert plan(request.tasks[0], request.config, "v1", ("Tree",)) is None


@pytest.mark.usefixtures("one_thread")
def test_a_label_that_is_gone_from_the_config_is_not_proposed(tmp_path: Path) -> None:
    bench, proposer = learned(tmp_path)
    name = bench.versions.publish(3, "1", lambda folder: publish(bench, folder, proposer, "Person", "Tree"))
    shown = asked(data={"image": inline(discs(50))})
    live = bench.versions.live_labels(name)
    todo = plan(shown.tasks[0], shown.config, name, live)
    assert todo is not None
    answer = preannotate(bench, Proposals(bench), todo.to_json())
    assert {label for r in answer["result"] for label in r["value"]["brushlabels"]} == {"Person"}


@pytest.mark.usefixtures("one_thread")
def test_damaged_proposals_are_an_error_until_they_are_restored(tmp_path: Path) -> None:
    """Empty answers would look as if there were nothing on the images."""
    bench, proposer = learned(tmp_path)
    name = bench.versions.publish(3, "1", lambda folder: publish(bench, folder, proposer, "Person"))
    file = bench.versions.folder(name) / propose.FILE  # type: ignore[operator]
    shown = asked(data={"image": inline(discs(50))})
    todo = plan(shown.tasks[0], shown.config, name, bench.versions.live_labels(name))
    assert todo is not None
    whole, proposals = file.read_bytes(), Proposals(bench)
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="missing or damaged"):
        preannotate(bench, proposals, todo.to_json())
    file.write_bytes(whole)
    assert preannotate(bench, proposals, todo.to_json())["result"]


@pytest.mark.usefixtures("one_thread")
def test_a_task_may_be_scored_with_nothing_to_show(tmp_path: Path) -> None:
    bench, _ = learned(tmp_path)

    def look(folder: Path) -> None:
        shutil.copytree(bench.catalog.folder(bench.model), folder, dirs_exist_ok=True)
        write_signatures(folder, [np.eye(3, dtype=np.float32)[0]])

    request = asked(data={"image": inline(discs(50))})
    todo = plan(request.tasks[0], request.config, bench.base_version, (), scored=True)
    assert todo is not None
    assert (todo.wishes, todo.labels) == ((), ())
    answer = preannotate(bench, Proposals(bench), todo.to_json())
    assert (answer["result"], answer["model_version"]) == ([], bench.base_version)
    assert 0 <= answer["score"] <= 1
    proposals = Proposals(bench)
    assert proposals._newest(3) == []
    bench.versions.publish(3, "2", look)
    assert len(proposals._newest(3)) == 1, "a candidate tells what is known before anything is promoted"


def test_a_request_survives_the_ledger_and_its_digest_forgets_the_version() -> None:
    request = asked(predictions=[prediction(box("a"), point("c"))])
    first, second = (plan(request.tasks[0], request.config, version) for version in ("v1", "v2"))
    assert first is not None
    assert second is not None
    again = PreannotateRequest.from_json(first.to_json())
    assert again.to_json() == first.to_json()
    assert first.digest() == second.digest() == again.digest()
    other = planned(predictions=[prediction(box("a", x=11))])
    assert other is not None
    assert other.digest() != first.digest()


def test_clicks_can_pass_between_the_masks_of_a_task(tmp_path: Path) -> None:
    pixels = np.full((100, 200, 3), 30, np.uint8)
    pixels[10:40, 20:60] = pixels[10:40, 100:140] = 220
    image = inline(pixels)
    bench = build_workbench(Settings(_env_file=None, model="watershed", data_dir=tmp_path))
    boxes = prediction(box("a"), box("b", x=50))
    request = asked(data={"image": image}, predictions=[boxes])
    todo = plan(request.tasks[0], request.config, bench.base_version)
    assert todo is not None
    pauses: list[None] = []

    def run() -> dict[str, Any]:
        serve_pauses(lambda: pauses.append(None))
        return preannotate(bench, Proposals(bench), todo.to_json())

    assert len(contextvars.Context().run(run)["result"]) == 2
    assert len(pauses) == 2
