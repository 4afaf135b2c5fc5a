from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from maskloop.cli import build
from maskloop.labelstudio.pixels import upright

runner = CliRunner()


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASKLOOP_DATA_DIR", str(tmp_path / "data"))
    pixels = np.full((80, 100, 3), 30, np.uint8)
    pixels[20:60, 10:50] = (220, 220, 60)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def run(*arguments: object) -> tuple[int, str]:
    result = runner.invoke(build(), ["predict", *map(str, arguments)])
    return result.exit_code, result.output


def test_a_point_gives_a_mask_and_an_overlay(picture: Path, tmp_path: Path) -> None:
    out, over = tmp_path / "mask.png", tmp_path / "overlay.png"
    code, text = run(picture, "--model", "watershed", "--point", "30,40", "-o", out, "--overlay", over)
    assert code == 0, text
    mask = np.asarray(Image.open(out)) > 0
    assert mask[40, 30]
    assert not mask[70, 90]
    assert "predicted IoU" in text
    assert (np.asarray(Image.open(over)) != np.asarray(Image.open(picture))).any()


def test_a_prior_mask_is_corrected(picture: Path, tmp_path: Path) -> None:
    prior = np.zeros((80, 100), np.uint8)
    prior[20:60, 10:90] = 255
    Image.fromarray(prior).save(tmp_path / "prior.png")
    out = tmp_path / "mask.png"
    arguments = ("--model", "watershed", "--mask", tmp_path / "prior.png", "--negative", "80,40", "-o", out)
    code, text = run(picture, *arguments)
    assert code == 0, text
    assert not (np.asarray(Image.open(out)) > 0)[40, 80]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--point"),
        (("--point", "5"), "2 numbers"),
        (("--box", "1,2,3"), "4 numbers"),
        (("--point", "5,5", "--model", "nobody"), "nobody"),
        (("--point", "500,5"), "100 x 80"),
        (("--box", "50,50,10,10"), "has no area"),
        (("--negative", "5,5"), "negative clicks alone"),
        (("--point", "5,5", "-o", "mask.jpg"), "must end in one of .png"),
        (("--point", "5,5", "--overlay", "/nowhere/overlay.png"), "folder /nowhere is not there"),
    ],
)
def test_a_wrong_call_says_what_to_give(picture: Path, arguments: tuple[str, ...], says: str) -> None:
    code, text = run(picture, *arguments)
    assert code == 2
    assert says in text


def test_a_file_that_is_no_image_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    code, text = run(tmp_path / "notes.txt", "--point", "5,5")
    assert code == 2
    assert "not an image" in text
    Image.new("RGB", (20, 20)).save(tmp_path / "picture.png")
    code, text = run(tmp_path / "picture.png", "--point", "5,5", "--mask", tmp_path / "notes.txt")
    assert code == 2
    assert "not an image" in text


def test_an_image_of_sixteen_bits_is_seen_as_the_server_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKLOOP_DATA_DIR", str(tmp_path / "data"))
    deep = np.full((80, 100), 8000, np.uint16)
    deep[20:60, 10:50] = 20000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(upright((tmp_path / "deep.png").read_bytes(), 10_000)).save(tmp_path / "flat.png")
    masks = []
    for name in ("deep", "flat"):
        out = tmp_path / f"mask-{name}.png"
        code, text = run(tmp_path / f"{name}.png", "--model", "watershed", "--point", "30,40", "-o", out)
        assert code == 0, text
        masks.append(np.asarray(Image.open(out)) > 0)
    assert np.array_equal(*masks)
    assert 1500 < masks[0].sum() < 1700
