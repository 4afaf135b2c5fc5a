"""``maskloop bench load``: how long many annotators wait, and whether each gets their own answer."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from maskloop.cli.files import new_file, new_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maskloop.load.annotators import Click, Record
    from maskloop.load.scenes import Scene

IMAGES = 48


def load(
    annotators: Annotated[str, typer.Option(help="Numbers of annotators, one run each.")] = "1,8,32",
    workers: Annotated[str, typer.Option(help="Numbers of workers, one run each; 0 is the embedded shape.")] = "0,1,2",
    seconds: Annotated[float, typer.Option(min=5, help="Length of a run.")] = 30.0,
    think: Annotated[float, typer.Option(min=0, help="Mean seconds a person thinks before each action.")] = 1.5,
    batch: Annotated[
        int, typer.Option(min=0, help="Tasks retrieved at a time in the background, again and again.")
    ] = 0,
    model: Annotated[str, typer.Option(help="The model to serve; by default MASKLOOP_MODEL or clicknet.")] = "",
    url: Annotated[str, typer.Option(help="A server that runs here instead of own ones; see --image-port.")] = "",
    image_port: Annotated[
        int,
        typer.Option(help="Where the images are served; a server of --url needs MASKLOOP_IMAGE_HOSTS=127.0.0.1:PORT."),
    ] = 0,
    user: Annotated[
        str, typer.Option(help="BASIC_AUTH_USER of that server; its password is read from BASIC_AUTH_PASS.")
    ] = "",
    json_file: Annotated[Path | None, typer.Option("--json", callback=new_file, help="Write the figures here.")] = None,
    plot: Annotated[Path | None, typer.Option(callback=new_picture, help="Draw p50 and p95 here (PNG or SVG).")] = None,
) -> None:
    """Measure the wait per click with many annotators, in both shapes, against servers it starts itself.

    People open tasks, click, correct and submit; every answer is checked to belong to its own image.
    """
    import tempfile

    from rich.console import Console

    from maskloop.load.scenes import SceneServer
    from maskloop.load.shapes import ShapeError, shape

    crowds, counts = _numbers("--annotators", annotators, 1), _numbers("--workers", workers, 0)
    auth = (user, os.environ.get("BASIC_AUTH_PASS", "")) if user else None
    found: list[dict[str, Any]] = []
    console = Console(width=None if sys.stdout.isatty() else 150)
    with SceneServer(IMAGES, image_port) as images:
        settings = {"MASKLOOP_MODEL": model, "MASKLOOP_TRAIN": "false", "MASKLOOP_IMAGE_HOSTS": images.host}
        for count in [0] if url else counts:
            for crowd in crowds:
                name = url or ("embedded" if count == 0 else f"RQ, {count} worker{'s' * (count > 1)}")
                console.print(f"{name}, {crowd} annotators, {seconds:g} s")
                with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
                    try:
                        server = url or stack.enter_context(shape(count, Path(folder), settings))
                    except (ShapeError, RuntimeError) as error:
                        _fail(str(error))
                    row = measure(server, images.scenes, crowd, seconds, think, batch, auth)
                found.append({"shape": name, "workers": count, **row})
                for problem, times in row["problems"].items():
                    console.print(f"  {times} x {problem}", style="yellow", markup=False)
    console.print(table(found))
    if json_file:
        json_file.write_text(json.dumps(found, indent=2) + "\n")
    if plot:
        draw(found, plot)
    if any(row["wrong"] for row in found):
        _fail("Answers of another image came back: see the column wrong.")
    if not any(row["all"]["p50_ms"] for row in found):
        _fail("Not one click was answered.")


def _numbers(option: str, text: str, least: int) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < least:
        raise typer.BadParameter(f"{text!r} is not {least} or more, or several such with commas", param_hint=option)
    return numbers


def _fail(message: str) -> NoReturn:
    typer.secho(message, fg="red", err=True)
    raise typer.Exit(1) from None


def measure(
    url: str,
    scenes: Sequence[Scene],
    crowd: int,
    seconds: float,
    think: float,
    batch: int,
    auth: tuple[str, str] | None,
) -> dict[str, Any]:
    """One run of ``crowd`` annotators against a server."""
    import threading

    from maskloop.load.annotators import Annotator, Batch, Record

    record, over = Record(), threading.Event()
    people: list[threading.Thread] = [Annotator(n, url, scenes, record, over, think, auth) for n in range(crowd)]
    if batch:
        people.append(Batch(url, scenes, batch, record, over, auth))
    for person in people:
        person.start()
    over.wait(seconds)
    over.set()
    for person in people:
        person.join(100)
    return {"annotators": crowd, "seconds": seconds, "batch": batch, **figures(record, seconds)}


def figures(record: Record, seconds: float) -> dict[str, Any]:
    """What a run says, in milliseconds and per second."""
    good = [click for click in record.clicks if click.outcome == "ok"]
    overhead = [1000 * (click.seconds - click.model) for click in good]
    by_number = {str(n): percentiles([c for c in good if c.number == n]) for n in sorted({c.number for c in good})}
    return {
        "clicks": len(record.clicks),
        "clicks_per_second": len(record.clicks) / seconds,
        "submitted": record.submitted,
        "batch_tasks": record.batch_tasks,
        "wrong": sum(click.outcome == "wrong" for click in record.clicks),
        "refused": sum(click.outcome == "refused" for click in record.clicks),
        "errors": sum(click.outcome == "error" for click in record.clicks),
        "problems": dict(record.problems),
        "all": percentiles(good),
        "by_click": by_number,
        "model_p50_ms": statistics.median([1000 * c.model for c in good]) if good else None,
        "overhead_p50_ms": statistics.median(overhead) if overhead else None,
        "open_p95_ms": _at(sorted(1000 * s for s in record.opened), 0.95),
    }


def percentiles(clicks: list[Click]) -> dict[str, float | None]:
    waits = sorted(1000 * click.seconds for click in clicks)
    return {f"p{round(100 * q)}_ms": _at(waits, q) for q in (0.5, 0.95, 0.99)}


def _at(ordered: list[float], quantile: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] if ordered else None


def table(found: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    columns = ("shape", "people", "clicks/s", "p50", "p95", "p99", "1st", "2nd", "3rd", "model", "around")
    title = "Milliseconds; 1st to 3rd click, the model and what is around it: p50"
    grid = Table(*columns, "503", "errors", "wrong", "batch", title=title)
    for row in found:
        clicks = [row["by_click"].get(n, {}).get("p50_ms") for n in ("1", "2", "3")]
        values = [*row["all"].values(), *clicks, row["model_p50_ms"], row["overhead_p50_ms"]]
        grid.add_row(
            row["shape"],
            str(row["annotators"]),
            f"{row['clicks_per_second']:.1f}",
            *("-" if value is None else f"{value:.1f}" for value in values),
            *(str(row[name]) for name in ("refused", "errors", "wrong", "batch_tasks")),
        )
    return grid


def draw(found: list[dict[str, Any]], file: Path) -> None:
    """p50 (lines) and p95 (dashed) over the number of annotators, one colour for each shape."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for shape in dict.fromkeys(row["shape"] for row in found):
        rows = [row for row in found if row["shape"] == shape and row["all"]["p50_ms"] is not None]
        people = [row["annotators"] for row in rows]
        (line,) = axes.plot(people, [row["all"]["p50_ms"] for row in rows], "o-", label=f"{shape}, p50")
        axes.plot(people, [row["all"]["p95_ms"] for row in rows], "o--", color=line.get_color(), label=f"{shape}, p95")
    axes.set(xscale="log", yscale="log", xlabel="annotators", ylabel="wait per click, ms")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(file, dpi=150)
    pyplot.close(figure)


def register(app: typer.Typer, bench: typer.Typer) -> None:
    bench.command()(load)
