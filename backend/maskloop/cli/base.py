"""``maskloop train-base`` and ``maskloop eval``: the base weights, made and examined."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskloop.cli.files import new_file, new_picture

if TYPE_CHECKING:
    from rich.table import Table

    from maskloop.learn.evaluate import Session


def train_base(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Training data; see docs/model.md.")],
    initial: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Encoder to start from.")] = None,
    output: Annotated[Path, typer.Option(help="Checkpoint, log and curves; a run in it is continued.")] = Path(
        "runs/base"
    ),
    hours: Annotated[float, typer.Option(min=0.001, help="Length of the schedule in hours of training.")] = 2.0,
    seed: Annotated[int, typer.Option(help="Decides every sample.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch: Annotated[
        int, typer.Option(min=1, help="Views of a batch; 48 suits a GPU with a dozen cores beside it.")
    ] = 8,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 for all cores.")] = 0,
    start: Annotated[Path | None, typer.Option(exists=True, help="Model or checkpoint to start from.")] = None,
    model: Annotated[Path | None, typer.Option(help="Also write the averaged weights as a model's folder.")] = None,
) -> None:
    """Train clicknet's base weights. Interrupted, even killed, it goes on where it stopped when called again."""
    import torch
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from safetensors import SafetensorError

    from maskloop.learn.base.batches import Recipe
    from maskloop.learn.base.curves import draw_training
    from maskloop.learn.base.data import Samples
    from maskloop.learn.base.release import release
    from maskloop.learn.base.train import CHECKPOINT, LOG, Trainer
    from maskloop.segment.card import ModelError

    if initial is None and start is None:
        raise typer.BadParameter("nothing to start from: give --initial ENCODER.safetensors or --start WEIGHTS")
    if threads:
        torch.set_num_threads(threads)
    recipe = Recipe(hours=hours, seed=seed, batch=batch)
    try:
        Samples(data, seed, recipe.size)
        trainer = Trainer(data, initial, output, recipe, device, start)
    except SafetensorError as error:
        raise typer.BadParameter(f"--start or --initial is not a safetensors file: {error}") from None
    except (ModelError, ValueError, OSError) as error:
        raise typer.BadParameter(str(error)) from None
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()) as progress:
        task = progress.add_task("training", total=1.0)

        def report(done: float, figures: dict[str, float]) -> None:
            told = f"{figures['iteration']:.0f} iterations, loss {figures['loss1']:.2f}, IoU {figures['iou1']:.2f}"
            progress.update(task, completed=done, description=told)

        trainer.run(report)
    draw_training(output / LOG, output / "curves.png")
    if model is not None:
        release(output / CHECKPOINT, model)
    typer.echo(f"{output / CHECKPOINT}: {trainer.iteration} iterations in {trainer.seconds / 3600:.2f} h")


def evaluate_model(
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder with images/ and masks/.")],
    split: Annotated[str, typer.Option(help="Part of the data, where it has several.")] = "eval",
    model: Annotated[str, typer.Option(help="A model of `maskloop models`, or a folder with a card.")] = "",
    source: Annotated[list[str], typer.Option(help="Only these data sets of it; may be repeated.")] = [],  # noqa: B006
    limit: Annotated[int, typer.Option(min=0, help="At most so many objects, evenly spaced; 0 for all.")] = 0,
    clicks: Annotated[int, typer.Option(min=1, max=20, help="Most clicks for an object.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", callback=new_file, help="Write all figures here.")] = None,
    plot: Annotated[
        Path | None, typer.Option(callback=new_picture, help="Draw IoU by clicks and the reliability of scores here.")
    ] = None,
    worst: Annotated[
        Path | None, typer.Option(callback=new_picture, help="Draw a sheet of the worst cases here.")
    ] = None,
) -> None:
    """Click every object of a data set as the field does; print clicks needed, IoU and time."""
    import json

    from rich.console import Console
    from rich.progress import Progress

    from maskloop.learn import evaluate
    from maskloop.segment.card import ModelError
    from maskloop.segment.catalog import Catalog
    from maskloop.settings import Settings

    settings = Settings()
    named = model or settings.model
    try:
        segmenter = Catalog(settings.models_dir, settings.data_dir).load(
            Path(named) if (Path(named) / "model.toml").is_file() else named,
            settings.device,
            settings.inference_threads,
        )
        chosen = evaluate.spaced(evaluate.objects(data, split, source), limit)
    except (ModelError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    console = Console()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"{segmenter.name} on {len(chosen)} objects", total=len(chosen))
        sessions = evaluate.evaluate(
            segmenter, chosen, lambda done, session: progress.update(task, completed=done), clicks
        )
    console.print(table(f"{segmenter.name} on {data}", sessions))
    if json_file is not None:
        figures = {"model": segmenter.name, "sources": evaluate.by_source(sessions)}
        json_file.write_text(json.dumps(figures | {"reliability": evaluate.reliability(sessions)}, indent=1) + "\n")
    if plot is not None or worst is not None:
        from maskloop.learn import evalplot

        if plot is not None:
            evalplot.draw_curves({segmenter.name: sessions}, plot)
        if worst is not None:
            evalplot.draw_worst(segmenter, sessions, worst)


def table(title: str, sessions: list[Session]) -> Table:
    """The figures of each source as a table for the terminal."""
    from rich.table import Table

    from maskloop.learn.evaluate import by_source

    shown = {
        "objects": "n",
        "noc85": "NoC@85",
        "noc90": "NoC@90",
        "fail85": "fail@85",
        "fail90": "fail@90",
        "miou1": "mIoU@1",
        "miou3": "mIoU@3",
        "miou5": "mIoU@5",
        "miou10": "mIoU@10",
        "box": "box alone",
        "box_click1": "box and 1 click",
        "click_seconds": "s/click",
        "encode_seconds": "s/image",
        "rank_correlation": "rank correlation of scores",
    }
    result = Table(title=title)
    result.add_column("")
    sources = by_source(sessions)
    for source in sources:
        result.add_column(source, justify="right")
    for key, label in shown.items():
        digits = 0 if key == "objects" else 3
        result.add_row(label, *(f"{f[key]:.{digits}f}" if key in f else "-" for f in sources.values()))
    return result


def register(app: typer.Typer, bench: typer.Typer) -> None:
    app.command("eval")(evaluate_model)
    app.command("train-base")(train_base)
