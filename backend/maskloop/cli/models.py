"""``maskloop models``: what there is, and bringing weights here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def show(context: typer.Context) -> None:
    """List the models, or pull one. Any of them serves with MASKLOOP_MODEL=NAME."""
    if context.invoked_subcommand is not None:
        return
    from rich.console import Console
    from rich.table import Table

    from maskloop.segment.card import ModelError
    from maskloop.segment.catalog import Catalog
    from maskloop.settings import Settings

    settings = Settings()
    catalog = Catalog(settings.models_dir, settings.data_dir)
    table = Table(show_edge=False)
    for column in ("model", "state", "licence", "what it is"):
        table.add_column(column, no_wrap=column == "model")
    for name in catalog.names():
        try:
            card = catalog.card(name)
        except ModelError as error:
            table.add_row(name, "[red]broken", "", str(error))
            continue
        if catalog.available(name):
            state = "in use" if name == settings.model else "ready"
        else:
            state = "to pull" if card.on_hub else "[red]weights missing"
        table.add_row(name, state, card.licence, card.description)
    Console().print(table)


def fetch(
    name: Annotated[str, typer.Argument(help="A model that `maskloop models` shows as `to pull`.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", exists=True, file_okay=False, help="Take the files from this folder, not from the hub."),
    ] = None,
) -> None:
    """Download a model's weights (safetensors only), check them, and keep them in the data folder."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from maskloop.segment.card import ModelError
    from maskloop.segment.catalog import Catalog
    from maskloop.segment.pull import pull
    from maskloop.settings import Settings

    settings = Settings()
    catalog = Catalog(settings.models_dir, settings.data_dir)
    try:
        known = catalog.card(name).files
    except ModelError as error:
        raise typer.BadParameter(str(error)) from None
    # The hub's client draws its own bars; these are for the copy from a folder.
    with Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), disable=source is None) as bars:
        tasks = {file: bars.add_task(file, total=None) for file in known}

        def report(file: str, done: int, total: int) -> None:
            bars.update(tasks[file], completed=done, total=total)

        try:
            card = pull(catalog, name, source, progress=report)
        except ModelError as error:
            raise typer.BadParameter(str(error)) from None
    at = f" at revision {card.revision}" if card.revision else ""
    typer.echo(f"{catalog.folder(name)}: {card.source}{at}")
    for file, digest in card.files.items():
        known_before = "as its card promised" if known.get(file) else "recorded on first download"
        typer.echo(f"  {file}  sha256 {digest}  ({known_before})")
    typer.echo(f"serve it with MASKLOOP_MODEL={name} maskloop serve")


def register(app: typer.Typer, bench: typer.Typer) -> None:
    models = typer.Typer(invoke_without_command=True, callback=show)
    models.command("pull")(fetch)
    app.add_typer(models, name="models", help=show.__doc__)
