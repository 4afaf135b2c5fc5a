from __future__ import annotations

import math
from typing import Any

import pytest
from label_studio_sdk.label_interface import LabelInterface

from maskloop.labelstudio import polygons, rle
from maskloop.labelstudio.controls import LabelConfig
from maskloop.labelstudio.regions import Target, clip, mask_regions, prediction, region_id

from .made import CONFIG, POLYGONS, SIZE, mask

CAT = mask(10, 10, 40, 40)
TWO = CAT | mask(45, 5, 60, 20)


def target(config: str, label: str | None = "Cat") -> Target:
    output = LabelConfig.parse(config).output()
    assert output is not None
    return Target.of(output, region_id(7, "p1"), label, SIZE)


def problems(config: str, answer: dict[str, Any]) -> list[str]:
    return list(LabelInterface(config).validate_prediction(answer, return_errors=True))


@pytest.mark.parametrize("label", ["Cat", None])
def test_a_brush_region_is_what_label_studio_accepts(label: str | None) -> None:
    (region,) = mask_regions(target(CONFIG, label), rle.encode(CAT), (), 0.8)
    assert problems(CONFIG, prediction([region], "v1", 0.8)) == []
    assert region["value"]["brushlabels"] == ([label] if label else [])
    assert int.from_bytes(bytes(region["value"]["rle"][:4]), "big") == 4 * SIZE[0] * SIZE[1]
    assert (rle.decode_mask(region["value"]["rle"], SIZE[::-1]) == CAT).all()
    assert (region["original_width"], region["original_height"]) == SIZE


def test_polygon_regions_are_what_label_studio_accepts() -> None:
    regions = mask_regions(target(POLYGONS), b"", polygons.rings(TWO), 0.8)
    assert problems(POLYGONS, prediction(regions, "v1", 0.8)) == []
    assert len({region["id"] for region in regions}) == len(regions) == 2
    assert regions[0]["id"] == region_id(7, "p1")
    assert regions[0]["value"]["closed"] is True
    assert regions[0]["value"]["polygonlabels"] == ["Cat"]
    for region in regions:
        assert all(0 <= coordinate <= 100 for point in region["value"]["points"] for coordinate in point)


@pytest.mark.parametrize("tag", ["Brush", "Polygon"])
def test_tags_without_labels(tag: str) -> None:
    config = f'<View><Image name="image" value="$image"/><{tag} name="t" toName="image"/></View>'
    regions = mask_regions(target(config, None), rle.encode(CAT), polygons.rings(CAT), 0.5)
    assert problems(config, prediction(regions, "v1", 0.5)) == []
    assert regions[0]["type"] == tag.lower()


@pytest.mark.parametrize("config", [CONFIG, POLYGONS])
def test_an_empty_mask_is_an_empty_answer(config: str) -> None:
    answer = prediction(mask_regions(target(config), b"", (), 0.3), "v1", 0.3)
    assert answer["result"] == []
    assert problems(config, answer) == []


def test_what_the_editor_forgets_is_echoed() -> None:
    output = target(CONFIG)
    others = ({"id": output.id, "type": "choices", "value": {"choices": ["x"]}},)
    kept = Target(
        output.id, "brush", "image", "brushlabels", "Cat", SIZE, {"meta": {"text": ["n"]}, "origin": "manual"}, others
    )
    region, other = mask_regions(kept, rle.encode(CAT), (), 0.8)
    assert region["meta"] == {"text": ["n"]}
    assert region["origin"] == "manual"
    assert other == others[0]


@pytest.mark.parametrize(
    ("score", "clipped"), [(0.5, 0.5), (-1, 0), (1.7, 1), (math.nan, 0), (math.inf, 0), (-math.inf, 0)]
)
def test_scores_are_between_0_and_1(score: float, clipped: float) -> None:
    assert clip(score) == clipped
    answer = prediction(mask_regions(target(CONFIG), rle.encode(CAT), (), score), "v1", score)
    assert problems(CONFIG, answer) == []
    assert answer["score"] == answer["result"][0]["score"] == clipped


def test_region_ids_depend_on_the_task_and_the_prompt_only() -> None:
    assert region_id(1, "a") == region_id(1, "a")
    assert len({region_id(task, prompt) for task in (1, 2, None) for prompt in ("a", "b")}) == 6
