from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskloop.jobs.handlers import build_workbench, handlers
from maskloop.jobs.predict import PredictAnswer, PredictRequest
from maskloop.jobs.workbench import Workbench
from maskloop.labelstudio import rle
from maskloop.queue.job import JobError, Payload
from maskloop.segment.clicknet import ClickNet
from maskloop.segment.prompt import Point, Prompt
from maskloop.settings import Settings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return build_workbench(Settings(_env_file=None, data_dir=tmp_path, device="cpu", inference_threads=1))


def ask(place: int, version: str, **given: Any) -> Payload:
    """A click into the middle of a bright disc that lies elsewhere on each picture."""
    rows, columns = np.mgrid[:90, :140]
    pixels = np.full((90, 140, 3), (40, 70, 40), np.uint8)
    pixels[(rows - 45) ** 2 + (columns - place) ** 2 < 20**2] = (230, 120, 60)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    prompt = Prompt((Point(place, 45),))
    return PredictRequest(**{"url": url, "task": place, "version": version, "prompt": prompt, **given}).to_json()


def middle(outcome: Any) -> float:
    assert not isinstance(outcome, Exception)
    answer = PredictAnswer.from_json(outcome)
    return float(np.nonzero(rle.decode_mask(answer.rle, (90, 140)))[1].mean())


def passes_of(bench: Workbench) -> list[int]:
    """How many looks went into each pass of the decoder from now on."""
    _, segmenter = bench.segmenter(bench.base_version)
    assert isinstance(segmenter, ClickNet)
    sizes: list[int] = []
    segmenter.network.decoder.register_forward_hook(lambda net, given, made: sizes.append(len(made[0])))
    return sizes


def test_clicks_on_known_images_are_decoded_together_and_each_gets_its_own(bench: Workbench) -> None:
    places = (30, 50, 80, 110)
    payloads = [ask(place, bench.base_version) for place in places]
    for payload in payloads:
        list(handlers(bench)["prepare"]([{k: payload[k] for k in ("url", "task", "version")}]))
    passes = passes_of(bench)
    outcomes = list(handlers(bench)["predict"](payloads))
    assert [middle(outcome) for outcome in outcomes] == pytest.approx(places, abs=4)
    assert max(passes) == len(places)


def test_a_click_does_not_wait_for_the_image_of_another_to_be_encoded(bench: Workbench) -> None:
    known, new = ask(30, bench.base_version), ask(80, bench.base_version)
    list(handlers(bench)["predict"]([known]))
    _, segmenter = bench.segmenter(bench.base_version)
    assert isinstance(segmenter, ClickNet)
    encoded: list[int] = []
    segmenter.network.encoder.register_forward_hook(lambda *_: encoded.append(1))
    outcomes = iter(handlers(bench)["predict"]([known, new]))
    assert middle(next(outcomes)) == pytest.approx(30, abs=4)
    assert not encoded
    assert middle(next(outcomes)) == pytest.approx(80, abs=4)
    assert encoded


def test_a_failure_costs_its_own_click_only(bench: Workbench) -> None:
    wrong, empty = ask(50, bench.base_version, size=(14, 9)), ask(80, bench.base_version, prompt=Prompt())
    given = [ask(30, bench.base_version), wrong, empty, ask(110, bench.base_version)]
    first, size, prompt, last = handlers(bench)["predict"](given)
    assert middle(first) == pytest.approx(30, abs=4)
    assert middle(last) == pytest.approx(110, abs=4)
    assert isinstance(size, JobError)
    assert "browser saw 14 x 9" in str(size)
    assert isinstance(prompt, JobError)
    assert "empty prompt" in str(prompt)
