"""A newcomer's first hour: click, correct, accept, submit, update, pre-annotate, train, delete."""

import re
import time
from collections.abc import Callable

import pytest
import requests

from maskloop.demo.account import Account
from maskloop.demo.process import Backend
from tests.e2e import pictures
from tests.e2e.answer import Mask
from tests.e2e.conftest import NewProject
from tests.e2e.editor import Editor
from tests.e2e.pictures import BLOCK, DISC

NEGATIVE = (30.0, 72.0)
"""Dark background below the disc."""


def eventually(found: Callable[[], list[dict]], seconds: float = 90) -> list[dict]:
    """What is found, once there is something: an answer that takes too long is finished in the background."""
    end = time.monotonic() + seconds
    while not (result := found()):
        assert time.monotonic() < end, f"nothing in {seconds:.0f} s"
        time.sleep(1)
    return result


def annotations(account: Account, task: int) -> list[dict]:
    return account.call("GET", f"/api/tasks/{task}/annotations/")


def test_click_correct_box_submit_and_update(
    editor: Editor, account: Account, backend: Backend, new_project: NewProject
) -> None:
    labeling = new_project(backend)
    task = labeling.tasks[0]
    editor.open(labeling.project, task)
    editor.delete_all()

    first = editor.point(*DISC)
    assert [prompt["is_positive"] for prompt in first.asked] == [True]
    assert first.mask.has(*DISC)
    assert not first.mask.has(*NEGATIVE), "the mask of a bright disc must not flow into the dark"
    assert first.mask.label == "Object"

    second = editor.point(*NEGATIVE, negative=True)
    assert [prompt["is_positive"] for prompt in second.asked] == [True, False]
    assert second.mask.has(*DISC)
    assert not second.mask.has(*NEGATIVE)
    editor.accept()
    assert editor.suggested() == []
    assert [mask.area for mask in editor.masks()] == [second.mask.area]

    boxed = editor.box(57, 46, 93, 89, label=1)
    assert boxed.mask.label == "Animal"
    assert boxed.mask.inside(57, 46, 93, 89) > 0.9 * boxed.mask.area
    assert boxed.mask.inside(*BLOCK) > 0.7 * 192 * 168
    editor.accept()
    editor.submit()

    (stored,) = annotations(account, task)
    kept = [Mask.of(region) for region in stored["result"]]
    assert [(mask.label, mask.area) for mask in kept] == [
        ("Object", second.mask.area),
        ("Animal", boxed.mask.area),
    ]
    assert all(0 <= region["score"] <= 1 for region in stored["result"] if "score" in region)

    editor.open(labeling.project, task)
    editor.masks(2)
    editor.page.evaluate("() => Htx.annotationStore.selected.regions[0].deleteRegion()")
    editor.update()
    (stored,) = annotations(account, task)
    assert [Mask.of(region).label for region in stored["result"]] == ["Animal"]


def test_clicks_elsewhere_with_auto_accept_are_objects_of_their_own(
    editor: Editor, backend: Backend, new_project: NewProject
) -> None:
    labeling = new_project(backend)
    editor.open(labeling.project, labeling.tasks[0], auto_accept=True)
    editor.delete_all()
    editor.point(*DISC)
    editor.point(75, 67)
    masks = editor.masks()
    assert len({mask.id for mask in masks}) == 2
    assert masks[0].has(*DISC)
    assert masks[1].has(75, 67)


def webhooks_taken(backend: Backend) -> int:
    page = requests.get(f"{backend.url}/metrics", timeout=30).text
    counts = re.findall(r'^maskloop_requests_total\{.*route="/webhook".*status="200".*\} (\S+)$', page, re.M)
    return sum(int(float(count)) for count in counts)


def test_every_event_is_taken_while_training_is_asked_for(
    account: Account, backend: Backend, new_project: NewProject
) -> None:
    labeling = new_project(backend)
    task, before = labeling.tasks[0], webhooks_taken(backend)
    account.call("POST", f"/api/ml/{labeling.backend}/train", json={})
    (connected,) = account.call("GET", f"/api/ml/?project={labeling.project}")
    assert connected["state"] in ("CO", "TR"), connected["error_message"]
    for _ in range(3):
        made = account.call("POST", f"/api/tasks/{task}/annotations/", json={"result": []})
        account.call("PATCH", f"/api/annotations/{made['id']}/", json={"ground_truth": True})
        account.call("DELETE", f"/api/annotations/{made['id']}/")
    assert annotations(account, task) == []
    assert webhooks_taken(backend) - before >= 1 + 3 * 3


def test_retrieving_predictions_answers_every_task_and_leaves_them_openable(
    account: Account, backend: Backend, new_project: NewProject
) -> None:
    images = {f"{seed}.png": pictures.png(seed) for seed in range(3)}
    labeling = new_project(backend, images)
    whole_tab = {"selectedItems": {"all": True, "excluded": []}}
    account.call("POST", f"/api/dm/actions?id=retrieve_tasks_predictions&project={labeling.project}", json=whole_tab)
    (connected,) = account.call("GET", f"/api/ml/?project={labeling.project}")
    stored = account.call("GET", f"/api/predictions/?project={labeling.project}")
    assert {prediction["model_version"] for prediction in stored} <= {connected["model_version"]}
    for task in labeling.tasks:
        opened = account.call("GET", f"/api/tasks/{task}/?project={labeling.project}")
        assert opened["id"] == task


def test_a_box_of_another_tool_becomes_a_mask(account: Account, backend: Backend, new_project: NewProject) -> None:
    labeling = new_project(backend)
    task = labeling.tasks[0]
    x0, y0, x1, y1 = BLOCK
    box = {
        "id": "detector01",
        "from_name": "box",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": 640,
        "original_height": 480,
        "image_rotation": 0,
        "value": {
            "x": x0 - 2,
            "y": y0 - 2,
            "width": x1 - x0 + 4,
            "height": y1 - y0 + 4,
            "rotation": 0,
            "rectanglelabels": ["Animal"],
        },
    }
    body = {"task": task, "result": [box], "score": 0.8, "model_version": "detector"}
    account.call("POST", "/api/predictions/", json=body)
    account.call(
        "POST",
        f"/api/dm/actions?id=retrieve_tasks_predictions&project={labeling.project}",
        json={"selectedItems": {"all": False, "included": [task]}},
    )
    ours = eventually(
        lambda: [
            prediction
            for prediction in account.call("GET", f"/api/predictions/?task={task}")
            if prediction["model_version"] != "detector"
        ]
    )
    (region,) = ours[0]["result"]
    mask = Mask.of(region)
    assert mask.label == "Animal"
    assert mask.inside(*BLOCK) > 0.7 * 192 * 168
    assert 0 < ours[0]["score"] <= 1


def test_a_turned_photograph_gets_its_mask_upright(editor: Editor, backend: Backend, new_project: NewProject) -> None:
    """Label Studio sends the size and positions of the image as the browser shows it, after EXIF."""
    labeling = new_project(backend, {"turned.jpg": pictures.turned_jpeg()})
    editor.open(labeling.project, labeling.tasks[0])
    mask = editor.point(*DISC).mask
    assert mask.pixels.shape == (480, 640)
    assert mask.has(*DISC)
    assert not mask.has(*NEGATIVE)


POLYGONS = """
<View>
  <Image name="image" value="$image"/>
  <PolygonLabels name="polygon" toName="image"><Label value="Object"/></PolygonLabels>
  <KeyPointLabels name="point" toName="image" smart="true"><Label value="Object"/></KeyPointLabels>
</View>
"""


def test_polygons_where_the_config_has_no_brush(
    editor: Editor, account: Account, backend: Backend, new_project: NewProject
) -> None:
    labeling = new_project(backend, config=POLYGONS)
    task = labeling.tasks[0]
    editor.open(labeling.project, task)
    answer = editor.point(*DISC)
    assert [region["type"] for region in answer.regions] == ["polygonlabels"]
    editor.accept()
    editor.submit()
    (stored,) = annotations(account, task)
    (region,) = stored["result"]
    xs, ys = zip(*region["value"]["points"], strict=True)
    assert min(xs) < DISC[0] < max(xs)
    assert min(ys) < DISC[1] < max(ys)
    assert region["value"]["polygonlabels"] == ["Object"]


@pytest.mark.parametrize("control", ["point", "box"])
def test_a_label_kept_selected_adds_a_second_result_and_escape_avoids_it(
    control: str, editor: Editor, backend: Backend, new_project: NewProject
) -> None:
    """The warning of docs/gestures.md: Label Studio gives the accepted mask to every label still selected."""
    labeling = new_project(backend)
    editor.open(labeling.project, labeling.tasks[0])
    editor.delete_all()
    if control == "point":
        editor.point(*DISC)
    else:
        editor.box(57, 46, 93, 89)
    editor.choose(control)
    editor.accept()
    kinds = sorted(result["type"] for result in editor.results())
    assert kinds == sorted(["brushlabels", {"point": "keypointlabels", "box": "rectanglelabels"}[control]])

    editor.delete_all()
    if control == "point":
        editor.point(*DISC)
    else:
        editor.box(57, 46, 93, 89)
    editor.choose(control)
    editor.escape()
    editor.accept()
    assert [result["type"] for result in editor.results()] == ["brushlabels"]
