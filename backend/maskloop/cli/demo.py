"""``maskloop demo``: a Label Studio with images and this backend connected, for the first click."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    label_studio: Annotated[Path, typer.Option(help="The label-studio program.")] = Path(
        ".venv-label-studio/bin/label-studio"
    ),
    data: Annotated[Path, typer.Option(help="Folder of the demo's data; delete it to start afresh.")] = Path(".demo"),
    label_studio_port: Annotated[int, typer.Option(help="Port of Label Studio.")] = 8080,
    port: Annotated[int, typer.Option(envvar="PORT", help="Port of MaskLoop.")] = 9090,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the first task in the browser.")] = True,
) -> None:
    """Start a real Label Studio with sample images and MaskLoop connected: open the URL and click.

    Both listen on this machine only. Ctrl+C stops both.
    """
    from rich.console import Console

    from maskloop.demo.run import Demo

    console = Console()
    running = Demo(label_studio, data, label_studio_port, port)
    try:
        running.start(console, open_browser)
        running.wait()
    except (FileNotFoundError, RuntimeError) as error:
        console.print(f"[bold red]The demo could not start.[/] {error}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print("\nStopping MaskLoop and Label Studio ...")
    finally:
        running.stop()


def register(app: typer.Typer, bench: typer.Typer) -> None:
    app.command()(demo)
