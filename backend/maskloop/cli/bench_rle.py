"""``maskloop bench rle``: brush RLE of MaskLoop against label-studio-sdk, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from maskloop.segment.prompt import Mask

SIDES = {"1 MP": 1024, "12 MP": 3464}


def register(app: typer.Typer, bench: typer.Typer) -> None:
    bench.command("rle")(rle)


def rle(
    mask: Annotated[Path | None, typer.Option(help="An image whose bright half is the real mask.")] = None,
    repeat: Annotated[int, typer.Option(help="Runs of each; the fastest counts.", min=1)] = 3,
) -> None:
    """Encode and decode brush masks with MaskLoop and with label-studio-sdk, and print how much faster it is.

    Both make the same bytes and read the same pixels; the run fails if they ever do not.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("mask", "size", "bytes", "encode\nms", "SDK\nms", "ratio", "decode\nms", "SDK\nms", "ratio")
    for column in table.columns[1:]:
        column.justify = "right"
    console = Console()
    with console.status("measuring"):
        for size, side in SIDES.items():
            for name, pixels in _masks(side, mask).items():
                row = _measure(pixels, repeat)
                table.add_row(name, size, f"{row.bytes:,}", *_cells(row.encode), *_cells(row.decode))
    console.print(table)


@dataclass(frozen=True)
class _Row:
    """Seconds of ours and of the SDK."""

    bytes: int
    encode: tuple[float, float]
    decode: tuple[float, float]


def _measure(mask: Mask, repeat: int) -> _Row:
    import numpy as np
    from label_studio_sdk.converter.brush import decode_rle, mask2rle

    from maskloop.labelstudio import rle

    grey = mask.astype(np.uint8) * 255
    ours, encoded = _fastest(lambda: rle.encode(mask), repeat)
    theirs, expected = _fastest(lambda: mask2rle(grey), repeat)
    if encoded != bytes(expected):
        raise AssertionError(f"{mask.shape}: the bytes differ from those of label-studio-sdk")
    decoding, decoded = _fastest(lambda: rle.decode_mask(encoded, (mask.shape[0], mask.shape[1])), repeat)
    sdk_decoding, values = _fastest(lambda: decode_rle(expected).reshape(*mask.shape, 4)[..., 3] >= 128, repeat)
    if not np.array_equal(decoded, values):
        raise AssertionError(f"{mask.shape}: the pixels differ from those of label-studio-sdk")
    return _Row(len(encoded), (ours, theirs), (decoding, sdk_decoding))


def _fastest(call: Callable[[], Any], repeat: int) -> tuple[float, Any]:
    best, result = float("inf"), None
    for _ in range(repeat):
        start = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - start)
    return best, result


def _cells(pair: tuple[float, float]) -> tuple[str, str, str]:
    ours, theirs = pair
    return f"{ours * 1e3:.2f}", f"{theirs * 1e3:.1f}", f"{theirs / ours:.0f} x"


def _masks(side: int, real: Path | None) -> dict[str, Mask]:
    """A clean disc, a real outline, and the disc with 2 % of its pixels flipped."""
    import numpy as np

    ys, xs = np.mgrid[:side, :side]
    disc = np.hypot(ys - side / 2, xs - side / 2) < 0.35 * side
    speckled = disc ^ (np.random.default_rng(0).random(disc.shape) < 0.02)
    return {"disc": disc, "real": _real(side, real), "speckled": speckled}


def _real(side: int, path: Path | None) -> Mask:
    import cv2
    import numpy as np

    if path is None:
        from skimage import data

        samples: Any = data
        source: Any = ~samples.horse() * np.uint8(255)
    else:
        found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if found is None:
            raise typer.BadParameter(f"{path} is no image that can be read", param_hint="--mask")
        source = found
    mask: Mask = cv2.resize(source, (side, side), interpolation=cv2.INTER_NEAREST) >= 128
    return mask
