from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.converter.brush import decode_rle, encode_rle, mask2rle

from maskloop.labelstudio import rle
from maskloop.labelstudio.rle import RleError

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))
RAGGED = st.tuples(st.integers(1, 160), st.integers(1, 160), st.floats(0, 1), st.integers(0, 2**32 - 1)).map(
    lambda t: np.random.default_rng(t[3]).random((t[0], t[1])) < t[2]
)
GREYS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=30))
RGBA = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(4)), elements=st.sampled_from([0, 1, 255])
)


def sdk(mask: np.ndarray) -> bytes:
    return bytes(mask2rle(mask.astype(np.uint8) * 255))


@given(st.one_of(MASKS, RAGGED))
@settings(deadline=None, max_examples=60)
def test_encodes_byte_for_byte_like_the_sdk(mask: np.ndarray) -> None:
    assert rle.encode(mask) == sdk(mask)


@pytest.mark.parametrize("pixels", [16384, 16385, 16386, 16388, 16448, 32768, 40000, 70001])
@pytest.mark.parametrize("value", [False, True])
def test_runs_longer_than_the_format_holds_are_split_like_the_sdk_splits_them(pixels: int, value: bool) -> None:
    mask = np.full((1, pixels), value)
    mask[0, -1] = True
    assert rle.encode(mask) == sdk(mask)
    assert np.array_equal(rle.decode_mask(rle.encode(mask), mask.shape), mask)


@given(st.one_of(MASKS, RAGGED))
@settings(deadline=None, max_examples=40)
def test_a_mask_survives_the_round_trip(mask: np.ndarray) -> None:
    assert np.array_equal(rle.decode_mask(rle.encode(mask), mask.shape), mask)


@given(GREYS)
@settings(deadline=None, max_examples=40)
def test_decodes_every_alpha_the_sdk_writes(grey: np.ndarray) -> None:
    data = mask2rle(grey)
    assert np.array_equal(rle.decode(data, grey.shape), grey)
    assert np.array_equal(rle.decode_mask(bytes(data), grey.shape), grey >= 128)


@given(RGBA)
@settings(deadline=None, max_examples=50)
def test_takes_the_alpha_channel_where_the_channels_differ(values: np.ndarray) -> None:
    data = encode_rle(values.reshape(-1))
    assert np.array_equal(rle.decode(data, values.shape[:2]), values[..., 3])


def literals(values: bytes, longest: int) -> bytes:
    """A stream of literal records only, which an encoder may write as well."""
    bits = f"{len(values):032b}" + "00111" + "0010" + "0011" + "0111" + "1111"
    size_class, width = {8: ("00", 3), 16: ("01", 4), 256: ("10", 8), 65536: ("11", 16)}[longest]
    for start in range(0, len(values), longest):
        piece = values[start : start + longest]
        bits += "0" + size_class + f"{len(piece) - 1:0{width}b}" + "".join(f"{value:08b}" for value in piece)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


@pytest.mark.parametrize("longest", [8, 16, 256, 65536])
def test_reads_literals_of_every_size_class(longest: int) -> None:
    alpha = np.random.default_rng(longest).integers(0, 256, (30, 41)).astype(np.uint8)
    data = literals(np.repeat(alpha.reshape(-1), 4).tobytes(), longest)
    assert np.array_equal(decode_rle(list(data)).reshape(30, 41, 4)[..., 3], alpha), (
        "the oracle disagrees with the test"
    )
    assert np.array_equal(rle.decode(data, (30, 41)), alpha)


def test_streams_longer_than_one_piece_are_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rle, "CHUNK", 64)
    mask = np.random.default_rng(4).random((90, 80)) < 0.4
    assert np.array_equal(rle.decode_mask(rle.encode(mask), mask.shape), mask)


def test_many_runs_and_few_runs_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(5).random((60, 50)) < 0.5
    few = rle.decode(rle.encode(mask), mask.shape)
    monkeypatch.setattr(rle, "FEW_RUNS", 1)
    assert np.array_equal(rle.decode(rle.encode(mask), mask.shape), few)


HEADER = [0, 0, 0, 16, 57, 27, 248]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([], "too short"),
        ([0, 0, 0], "too short"),
        ([255, 255, 255, 255, 57, 27, 255, 255, 255, 255], "holds 4294967295 values"),
        ([0, 0, 0, 20, 57, 27, 248, 0], "holds 20 values"),
        ([0, 0, 0, 16, 121, 27, 248, 0], "8-bit words"),
        ([0, 0, 0, 16, 57, 59, 248, 0], "run sizes"),
        (HEADER, "truncated: 0 values where 16"),
        ([0, 0, 0, 16, 57, 27, 252, 0], "truncated"),
        ([*list(rle.encode(np.ones((2, 2), bool)))[:-2]], "truncated"),
        ([*list(rle.encode(np.ones((2, 2), bool))), *[255] * 8], "too long"),
        ([0, 0, 0, 16, 57, 27, 256, 0], "0 to 255"),
        ([0, 0, 0, 16, 57, 27, -1, 0], "0 to 255"),
        ([0, 0, 0, 16, 57, 27, 1.5, 0], "0 to 255"),
        (["a"], "0 to 255"),
    ],
)
def test_hostile_bytes_are_refused(data: list[int], reason: str) -> None:
    with pytest.raises(RleError, match=reason):
        rle.decode(data, (2, 2))


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=100)
def test_any_bytes_are_a_mask_or_an_error(tail: bytes) -> None:
    data = (16 * 16 * 4).to_bytes(4, "big") + bytes([57, 27]) + tail
    with contextlib.suppress(RleError):
        assert rle.decode(data, (16, 16)).shape == (16, 16)


def test_nothing_is_allocated_for_a_size_that_is_announced_only() -> None:
    import tracemalloc

    data = [255, 255, 255, 252, 57, 27, 255, 255, 255, 255]
    tracemalloc.start()
    try:
        with pytest.raises(RleError, match="truncated"):
            rle.decode(data, (1, (2**32 - 4) // 4), max_pixels=2**31)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_mask_larger_than_allowed_is_refused() -> None:
    with pytest.raises(RleError, match="100 pixels"):
        rle.decode(rle.encode(np.zeros((11, 10), bool)), (11, 10), max_pixels=100)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (4,), (2, 2, 2)])
def test_what_is_no_mask_is_not_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(RleError, match="cannot be encoded"):
        rle.encode(np.zeros(shape, bool))


@pytest.fixture(scope="session")
def editor_rle(pytestconfig: pytest.Config) -> Path:
    """The package the editor itself decodes with, installed once into the cache folder."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = Path(pytestconfig.rootpath) / ".cache" / "rle-pack"
    if not (folder / "node_modules" / "@thi.ng" / "rle-pack").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "@thi.ng/rle-pack@2.1.43"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            pytest.skip(f"@thi.ng/rle-pack cannot be installed: {done.stderr.strip()[-200:]}")
    return folder


SCRIPT = """
import { decode, encode } from "@thi.ng/rle-pack";
import { readFileSync } from "node:fs";
const out = [];
for (const { rle, alpha } of JSON.parse(readFileSync(0, "utf8"))) {
  const values = decode(Uint8Array.from(rle));
  const rgba = Uint8Array.from(alpha.flatMap((a) => [a, a, a, a]));
  out.push({ alpha: Array.from(values).filter((_, i) => i % 4 === 3), rle: Array.from(encode(rgba, rgba.length)) });
}
process.stdout.write(JSON.stringify(out));
"""


@pytest.mark.slow
def test_the_editor_reads_ours_and_we_read_the_editors(editor_rle: Path) -> None:
    rng = np.random.default_rng(7)
    yy, xx = np.mgrid[:120, :140]
    masks = [
        np.zeros((1, 1), bool),
        np.ones((3, 2), bool),
        np.hypot(yy - 60, xx - 70) < 40,
        rng.random((64, 50)) < 0.5,
        rng.random((200, 210)) < 0.02,
        np.zeros((150, 300), bool),
    ]
    sent = [{"rle": list(rle.encode(mask)), "alpha": (mask.reshape(-1) * 255).tolist()} for mask in masks]
    script = editor_rle / "both.mjs"
    script.write_text(SCRIPT)
    done = subprocess.run(["node", str(script)], input=json.dumps(sent), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for mask, answer in zip(masks, json.loads(done.stdout), strict=True):
        assert np.array_equal(np.array(answer["alpha"]).reshape(mask.shape), mask * 255)
        assert np.array_equal(rle.decode_mask(answer["rle"], mask.shape), mask)
