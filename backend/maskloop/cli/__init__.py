"""The command line: ``maskloop COMMAND``. One module a group of commands."""

from __future__ import annotations

import importlib
from typing import Annotated

import typer

from maskloop import __version__

GROUPS: tuple[str, ...] = (
    "serve",
    "predict",
    "models",
    "demo",
    "doctor",
    "worker",
    "jobs",
    "bench_load",
    "bench_click",
    "bench_rle",
    "bench_learning",
    "base",
    "versions",
    "learning",
)
"""Modules of this package, each with ``register(app, bench)``; the order is the order of the help."""


def build() -> typer.Typer:
    """The whole command line, put together from the groups."""
    app = typer.Typer(
        name="maskloop",
        help="Click-to-mask ML backend for Label Studio that learns from every submitted annotation.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_show_locals=False,
    )
    app.callback()(_whole)
    bench = typer.Typer(help="Measure: each command prints its table and can draw it.", no_args_is_help=True)
    app.add_typer(bench, name="bench")
    for group in GROUPS:
        importlib.import_module(f"maskloop.cli.{group}").register(app, bench)
    return app


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _whole(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version.")
    ] = False,
) -> None:
    """Options of the command line as a whole."""


def main() -> None:
    try:
        build()()
    except Exception as error:
        if not (lines := explain(error)):
            raise
        for line in lines:
            typer.secho(line, fg="red", err=True)
        raise SystemExit(2) from None


def explain(error: Exception) -> list[str]:
    """What to put right, a line each without values, which may be secret; [] for what is a defect of the program."""
    from pydantic import ValidationError

    from maskloop.ledger import LedgerError
    from maskloop.segment.card import ModelError
    from maskloop.settings import environment_names

    if isinstance(error, ValidationError) and error.title == "Settings":
        names = {field: given[0] for field, given in environment_names().items()}
        setting = [".".join(map(str, one["loc"])) or "Settings" for one in error.errors()]
        return [
            f"{names.get(name, name)}: {one['msg']}; see docs/settings.md"
            for name, one in zip(setting, error.errors(), strict=True)
        ]
    if isinstance(error, LedgerError | ModelError):
        return [str(error)]
    if isinstance(error, OSError) and error.filename:
        return [f"{error.filename}: {error.strerror}; MASKLOOP_DATA_DIR names the folder that MaskLoop writes to"]
    return []
