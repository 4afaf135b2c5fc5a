from __future__ import annotations

import base64
import concurrent.futures
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskloop.jobs.handlers import build_workbench, handlers
from maskloop.jobs.predict import PredictAnswer, PredictRequest
from maskloop.jobs.workbench import Workbench
from maskloop.labelstudio import rle
from maskloop.queue.job import JobError
from maskloop.queue.pauses import Later
from maskloop.segment.prompt import Box, Mask, Point, Prompt
from maskloop.settings import Settings

HEIGHT, WIDTH = 80, 100


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return build_workbench(Settings(_env_file=None, model="watershed", data_dir=tmp_path))


def picture(exif: int | None = None) -> str:
    pixels = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    pixels[20:60, 10:50] = (220, 220, 60)
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    tags = image.getexif()
    if exif is not None:
        tags[0x0112] = exif
    image.save(buffer, "PNG", exif=tags)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def square() -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:60, 10:50] = True
    return mask


def ask(bench: Workbench, **given: Any) -> PredictAnswer:
    request = PredictRequest(
        **{"url": picture(), "task": 1, "version": bench.base_version, "prompt": Prompt(), **given}
    )
    payload = json.loads(json.dumps(request.to_json()))
    run = handlers(bench)["predict"]
    (outcome,) = run([payload])
    if isinstance(outcome, Later):
        concurrent.futures.wait([outcome.ready], 20)
        (outcome,) = run([payload])
    if isinstance(outcome, Exception):
        raise outcome
    return PredictAnswer.from_json(json.loads(json.dumps(outcome)))


def test_a_click_becomes_brush_rle_of_the_object(bench: Workbench) -> None:
    answer = ask(bench, prompt=Prompt((Point(30, 40),)), size=(WIDTH, HEIGHT))
    mask = rle.decode_mask(answer.rle, (HEIGHT, WIDTH))
    assert (mask & square()).sum() > 0.9 * (mask | square()).sum()
    assert 0 <= answer.score <= 1
    assert answer.version == bench.base_version
    assert {"image", "encode", "decode", "rle", "total"} <= set(answer.seconds)


def test_the_second_click_finds_the_embedding(bench: Workbench) -> None:
    tiers = [ask(bench, prompt=Prompt((Point(30, 40),))).tier for _ in range(2)]
    assert tiers == ["encode", "memory"]


def test_polygons_are_given_when_asked_for(bench: Workbench) -> None:
    answer = ask(bench, prompt=Prompt(box=Box(5, 15, 55, 65)), output="polygon")
    assert len(answer.polygons) == 1
    assert len(answer.polygons[0]) >= 4
    assert ask(bench, prompt=Prompt(box=Box(5, 15, 55, 65))).polygons == ()


def test_an_image_is_turned_upright_before_the_size_is_compared(bench: Workbench) -> None:
    answer = ask(bench, url=picture(exif=6), prompt=Prompt((Point(40, 30),)), size=(HEIGHT, WIDTH))
    assert answer.size == (HEIGHT, WIDTH)
    with pytest.raises(JobError, match="Reload the task"):
        ask(bench, url=picture(exif=6), prompt=Prompt((Point(40, 30),)), size=(WIDTH, HEIGHT))


def test_a_correction_changes_only_what_was_clicked(bench: Workbench) -> None:
    base = np.zeros((HEIGHT, WIDTH), bool)
    base[5:15, 60:90] = True
    answer = ask(bench, prompt=Prompt((Point(30, 40),), prior=base), base=base)
    mask = rle.decode_mask(answer.rle, (HEIGHT, WIDTH))
    assert (mask & base).sum() == base.sum()


def test_a_version_that_is_gone_is_answered_by_the_base_and_says_so(bench: Workbench) -> None:
    answer = ask(bench, prompt=Prompt((Point(30, 40),)), version=f"{bench.base_version}-p1-9")
    assert answer.version == bench.base_version


@pytest.mark.parametrize("url", ["data:image/png;base64,AAAA", "file:///etc/passwd", "http://169.254.169.254/", ""])
def test_a_bad_image_is_a_job_error_with_a_reason(bench: Workbench, url: str) -> None:
    with pytest.raises(JobError) as failure:
        ask(bench, url=url, prompt=Prompt((Point(1, 1),)))
    assert len(str(failure.value)) > 20


def test_prepare_fills_the_cache_for_the_click(bench: Workbench) -> None:
    (done,) = handlers(bench)["prepare"]([{"url": picture(), "task": 1, "version": bench.base_version}])
    assert isinstance(done, dict)
    assert done["tier"] == "encode"
    assert ask(bench, prompt=Prompt((Point(30, 40),))).tier == "memory"


def test_the_self_test_passes(bench: Workbench) -> None:
    (outcome,) = handlers(bench)["warm-up"]([{}])
    assert outcome == {"version": bench.base_version}
