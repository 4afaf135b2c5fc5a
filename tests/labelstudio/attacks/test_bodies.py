"""What the body of a request may hold. Each test is an attack that has to fail."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import pytest

from maskloop.labelstudio.controls import ConfigError, LabelConfig
from maskloop.labelstudio.interaction import GestureOptions, Nothing, interpret
from maskloop.labelstudio.memory import LocalMemory
from maskloop.labelstudio.requests import BadRequest, Limits, parse_predict

from ..made import batch, body, box, brush, draft, mask, point, task
from ..server import Server

BILLION_LAUGHS = (
    "<!DOCTYPE View [<!ENTITY a0 'ha'>"
    + "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 10))
    + "]><View>&a9;</View>"
)


@pytest.mark.parametrize(
    "xml",
    [
        BILLION_LAUGHS,
        '<!DOCTYPE View [<!ENTITY a SYSTEM "file:///etc/passwd">]><View>&a;</View>',
        '<!DOCTYPE View SYSTEM "{url}/evil.dtd"><View/>',
        '<!DOCTYPE View [<!ENTITY % a SYSTEM "{url}/evil.dtd"> %a;]><View/>',
        "<View>" * 100_000 + "</View>" * 100_000,
    ],
    ids=["billion laughs", "file", "remote DTD", "parameter entity", "too long"],
)
def test_configs_are_data(victim: Server, xml: str) -> None:
    with pytest.raises(ConfigError):
        LabelConfig.parse(xml.replace("{url}", victim.url))


def test_a_deeply_nested_config_is_no_crash() -> None:
    assert LabelConfig.parse("<View>" * 30_000 + "</View>" * 30_000).images == ()


def test_an_rle_that_claims_four_gigabytes_is_not_decoded() -> None:
    bomb = brush("r1", mask(1, 1, 9, 9))
    bomb["value"]["rle"] = [255, 255, 255, 255, 57, 27, 255, 255, 255, 255]
    sent = body(point("n", 5, 5, False), drafts=[draft(bomb)])
    assert isinstance(interpret(parse_predict(sent), LocalMemory(), GestureOptions(correct_in_place=True)), Nothing)


def test_a_region_of_a_huge_image_has_no_shape() -> None:
    huge = {**brush("r1", mask(1, 1, 9, 9)), "original_width": 10**9, "original_height": 10**9}
    (only,) = parse_predict(batch(task(annotations=[{"id": 1, "result": [huge]}]))).tasks
    assert only.annotations[0].regions[0].shape is None


def test_a_hundred_thousand_prompts_are_refused() -> None:
    with pytest.raises(BadRequest):
        parse_predict(body(*[point("p", 1, 1)] * 100_000), Limits())


@pytest.mark.parametrize("sign", [1, -1])
def test_a_box_without_measure(sign: int) -> None:
    endless = {**box("b1", 1, 1, 9, 9), "original_width": 8000, "original_height": 8000}
    endless["value"] |= {"rotation": 30, "width": sign * 1e308, "height": 1e308}
    (sent,) = parse_predict(batch(task(annotations=[{"id": 1, "result": [endless]}]))).tasks
    shape = sent.annotations[0].regions[0].shape
    assert shape is None or all(0 <= edge <= 8000 for edge in astuple(shape))


def test_a_stroke_without_measure() -> None:
    stroke = {"type": "add", "relativePoints": [50, 50, 1e308, -1e308], "relativeStrokeWidth": 1e308}
    sent = body({**brush("s1", mask(1, 1, 9, 9)), "value": {"touches": [stroke], "brushlabels": ["Cat"]}})
    interpret(parse_predict(sent), LocalMemory())


@pytest.mark.parametrize("odd", [None, 5, "x", [], {}, [None], [[]], [{"result": 5}], [{"result": [5, None, {}]}]])
@pytest.mark.parametrize("key", ["annotations", "drafts", "predictions", "data"])
def test_odd_tasks_are_read_without_an_exception(key: str, odd: Any) -> None:
    parse_predict(batch({**task(), key: odd}))
    parse_predict(body(point("p", 1, 1), **{key: odd}))
