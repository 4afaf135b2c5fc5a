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
    except ValueError as error:
        if not (lines := _wrong_settings(error)):
            raise
        for line in lines:
            typer.secho(line, fg="red", err=True)
        raise SystemExit(2) from None


def _wrong_settings(error: ValueError) -> list[str]:
    """What is wrong with which setting, a line each without its value, which may be secret; else []."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError) or error.title != "Settings":
        return []
    return [
        f"{'.'.join(map(str, one['loc'])) or 'Settings'}: {one['msg']}; see docs/settings.md" for one in error.errors()
    ]
