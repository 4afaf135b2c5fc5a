"""``maskloop bench learning``: does each submission make the next click better? Measured over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskloop.cli.files import new_file, new_picture


def learning(
    data: Annotated[Path, typer.Option(help="Folder with images/ and masks/ of one domain.")],
    images: Annotated[int, typer.Option(min=1, help="Images that are annotated and submitted.")] = 40,
    json_file: Annotated[
        Path | None, typer.Option("--json", callback=new_file, help="Write all figures to this file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(callback=new_picture, help="Draw the curves into this PNG file.")] = None,
    only: Annotated[str, typer.Option(help="Only the objects of this data set of the folder's index.csv.")] = "",
    others: Annotated[
        Path | None,
        typer.Option(help="Folder of other things, to see what is forgotten; by default the eval/ beside DATA."),
    ] = None,
    unseen: Annotated[int, typer.Option(min=1, help="Images kept aside for the comparison.")] = 20,
    per_image: Annotated[int, typer.Option(min=1, help="Objects of one image at most.")] = 3,
    every: Annotated[int, typer.Option(min=1, help="Train after so many submissions.")] = 20,
    active: Annotated[bool, typer.Option("--active/--random", help="Of eight images the least certain.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Also click every image with the base model.")
    ] = True,
) -> None:
    """Annotate a data set through a real server with retraining on; compare with the base model.

    A simulated annotator opens each image, takes proposed masks that fit (IoU 0.85), clicks the others to
    IoU 0.9 and submits by webhook. Then images nobody has seen are clicked with the base and what was learned.
    """
    from rich.console import Console

    from maskloop.load.lesson import Lesson, run
    from maskloop.load.lessonplot import draw, table

    console = Console()
    lesson = Lesson(
        data=data, images=images, only=only, others=others, unseen=unseen, per_image=per_image, every=every,
        active=active, without=compare,
    )  # fmt: skip
    try:
        found = run(lesson, lambda words: console.print(words, highlight=False))
    except ValueError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(1) from None
    console.print(table(found))
    if json_file is not None:
        import json

        json_file.write_text(json.dumps(found, indent=1) + "\n")
    if plot is not None:
        draw(found, plot)


def register(app: typer.Typer, bench: typer.Typer) -> None:
    bench.command()(learning)
