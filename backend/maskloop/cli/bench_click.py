"""``maskloop bench click``: from click to mask, three ways, interleaved in one run."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskloop.cli.files import new_file, new_picture

if TYPE_CHECKING:
    from rich.table import Table

    from maskloop.segment.prompt import Image

SUBJECTS = ("a", "b", "c")
LABELS = {"a": "clicknet", "b": "SAM 2.1 tiny, this backend", "c": "SAM 2.1 tiny, encoding at every click"}
REPORTED = (1, 2, 10)
"""(c) is asked for these alone: each click costs it the same, the others would only take time."""
PREPARED = 0
"""Stands for a first click on an image whose task was opened before."""


@dataclass(frozen=True)
class Row:
    """One way, one click: seconds from prompt to mask, and of processor time, over all images and repeats."""

    subject: str
    click: int
    n: int
    p50: float
    p95: float
    processor: float


def register(app: typer.Typer, bench: typer.Typer) -> None:
    bench.command("click")(click)


def click(
    data: Annotated[Path | None, typer.Option(exists=True, help="Folder of images; without it, bundled ones.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Images to click on.")] = 4,
    repeat: Annotated[int, typer.Option(min=1, help="Times each image is gone through.")] = 2,
    sam: Annotated[str, typer.Option(help="A pulled SAM 2 model; without it, random weights of full size.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of each; 0 for all cores.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", callback=new_file, help="Write the figures here.")] = None,
    plot: Annotated[Path | None, typer.Option(callback=new_picture, help="Draw them here.")] = None,
) -> None:
    """Compare click-to-mask: (a) clicknet, (b) SAM 2.1 tiny in this backend, (c) the same net encoding at each click.

    (c) is what a backend does that sets the image and predicts in every request. Each way has a process of
    its own; they take turns at every click, so that whatever else runs here slows all of them alike.
    """
    from rich.console import Console
    from rich.progress import track

    from maskloop.cli.click_ways import Worker

    pictures = list(_pictures(data, images))
    load_before = os.getloadavg()[0]
    times: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = _pulled(sam) if sam else _random_sam(Path(scratch))
        ways = {
            subject: Worker("clicknet" if subject == "a" else model, subject != "c", threads) for subject in SUBJECTS
        }
        try:
            rounds = [(picture, number) for number in range(repeat) for picture in pictures]
            for picture, number in track(rounds, "clicking", console=Console(stderr=True)):
                for way in ways.values():
                    way.open(picture, f"{id(picture)}-{number}")
                for count in (*range(1, max(REPORTED) + 1), PREPARED):
                    for subject, way in ways.items():
                        if subject != "c" or count in REPORTED:
                            times.setdefault((subject, count), []).append(way.click(count))
            memory = {subject: way.memory() for subject, way in ways.items()}
        finally:
            for way in ways.values():
                way.stop()
    rows = [_row(subject, count, seconds) for (subject, count), seconds in times.items()]
    Console().print(_table(rows, memory))
    size = f"{pictures[0].shape[1]} x {pictures[0].shape[0]}"
    typer.echo(f"{len(pictures)} images ({size} the first), load {load_before:.1f} to {os.getloadavg()[0]:.1f}")
    if json_file is not None:
        figures = {"rows": [asdict(row) for row in rows], "rss_mb": memory, "cores": os.cpu_count(), "sam": sam}
        json_file.write_text(json.dumps(figures, indent=1))
    if plot is not None:
        _draw(rows, plot)


def _pictures(data: Path | None, count: int) -> Iterator[Image]:
    """Images of about a megapixel."""
    import cv2
    import numpy as np
    from PIL import Image as Pillow

    if data is None:
        import skimage.data

        files = [np.asarray(getattr(skimage.data, name)()) for name in ("astronaut", "chelsea", "coffee", "rocket")]
    else:
        paths = sorted(p for p in data.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
        files = [np.asarray(Pillow.open(path).convert("RGB")) for path in paths[:count]]
    for pixels in files[:count]:
        scale = (1e6 / (pixels.shape[0] * pixels.shape[1])) ** 0.5
        yield np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def _pulled(name: str) -> str:
    from maskloop.segment.card import ModelError
    from maskloop.segment.catalog import Catalog
    from maskloop.settings import Settings

    settings = Settings()
    catalog = Catalog(settings.models_dir, settings.data_dir)
    try:
        if catalog.card(name).family != "sam" or not catalog.available(name):
            raise ModelError(f"{name} is not a pulled model of the SAM family; see `maskloop models`")
    except ModelError as error:
        raise typer.BadParameter(str(error), param_hint="--sam") from None
    return name


def _random_sam(folder: Path) -> str:
    """SAM 2.1 tiny's architecture at full size, with random weights, saved as the hub has it."""
    import torch

    from maskloop.segment.card import SAM_EXTRA, Card, write_card

    try:
        from transformers import Sam2Config, Sam2Model
        from transformers.utils import logging as noise
    except ImportError:
        raise typer.BadParameter(f"SAM 2.1 needs transformers: {SAM_EXTRA}") from None

    torch.manual_seed(0)
    noise.disable_progress_bar()
    Sam2Model(Sam2Config()).save_pretrained(folder)
    files = {"config.json": "", "model.safetensors": ""}
    write_card(folder, Card("sam2.1-hiera-tiny", "sam", "Apache-2.0", "random weights", files=files))
    return str(folder)


def _row(subject: str, count: int, seconds: list[tuple[float, float]]) -> Row:
    import numpy as np

    waited, worked = np.array(seconds).T
    p50, p95 = np.percentile(waited, [50, 95])
    return Row(subject, count, len(seconds), float(p50), float(p95), float(np.median(worked)))


def _table(rows: list[Row], memory: dict[str, int]) -> Table:
    from rich.table import Table

    table = Table("click", *(f"{LABELS[s]}\np50 / p95 (CPU) ms" for s in SUBJECTS), "c : a", "c : b")
    found = {(row.subject, row.click): row for row in rows}
    for count in (PREPARED, *REPORTED):
        mine = {subject: found[subject, count or 1 if subject == "c" else count] for subject in SUBJECTS}
        cells = [f"{1000 * row.p50:.0f} / {1000 * row.p95:.0f} ({1000 * row.processor:.0f})" for row in mine.values()]
        ratios = [f"{mine['c'].p50 / mine[s].p50:.1f}" for s in ("a", "b")]
        table.add_row("1, task opened before" if count == PREPARED else str(count), *cells, *ratios)
    table.add_row("memory, MB", *(str(memory[s]) for s in SUBJECTS), "", "")
    return table


def _draw(rows: list[Row], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for subject in SUBJECTS:
        mine = sorted((row for row in rows if row.subject == subject and row.click), key=lambda row: row.click)
        clicks = [row.click for row in mine]
        (line,) = axes.plot(clicks, [row.p50 for row in mine], "o-", label=LABELS[subject])
        axes.fill_between(
            clicks, [row.p50 for row in mine], [row.p95 for row in mine], alpha=0.2, color=line.get_color()
        )
    axes.set(yscale="log", xlabel="click", ylabel="seconds from click to mask (line p50, band to p95)")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
