"""``maskloop train``, ``trainer``, ``next``: learning from submissions, and what to label next."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from maskloop.ledger import Ledger, Training
    from maskloop.settings import Settings

Project = Annotated[int, typer.Option("--project", "-p", help="Id of the project in Label Studio.")]


def train(
    project: Project,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop the project's training instead.")] = False,
) -> None:
    """Train a project now, and show how far it is. The gate decides what becomes of the result.

    If a trainer is running it does the work and this only watches; Ctrl+C then leaves it running.
    """
    from maskloop.ledger import Ledger, TrainingState
    from maskloop.settings import Settings

    settings = Settings()
    ledger = Ledger(settings.ledger_url)
    try:
        if cancel:
            count = ledger.cancel_training(project)
            typer.echo(f"project {project}: {count} training{'' if count == 1 else 's'} told to stop")
            return
        asked = ledger.request_training(project, "by hand")
        owner = f"{socket.gethostname()}:{os.getpid()}:by-hand"
        mine = ledger.claim_training(owner, project)
        process = None if mine is None else _start(settings, mine.id, owner)
        try:
            done = _follow(ledger, asked.id, process)
        finally:
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait()
                ledger.release_training(asked.id, owner, died=False)
    finally:
        ledger.close()
    typer.echo(f"training {done.id}: {done.state.value}; {done.note}")
    if done.version:
        folder = settings.data_dir / "versions" / f"p{project}" / done.version
        typer.echo(f"report: {folder / 'report.md'}")
    if done.state is TrainingState.FAILED:
        raise typer.Exit(1)


def trainer() -> None:
    """Watch the ledger and train what is due: the service of the scaled-out shape.

    `maskloop serve` without Redis starts one by itself.
    """
    from maskloop.cli.serve import configure_logging
    from maskloop.jobs import trainer as trainers
    from maskloop.settings import Settings

    settings = Settings()
    configure_logging(settings.log_level)
    trainers.serve(settings)


def next_tasks(
    project: Project,
    count: Annotated[int, typer.Option(help="How many tasks to list.")] = 10,
    look: Annotated[int, typer.Option(help="How many tasks to look at; the rest of the project is not.")] = 60,
) -> None:
    """List the tasks worth labelling next, what the model knows least first, and say why."""
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    from maskloop.jobs.handlers import build_workbench
    from maskloop.jobs.next import rank
    from maskloop.labelstudio.client import LabelStudioClient, LabelStudioError
    from maskloop.settings import Settings

    settings = Settings()
    console = Console()
    try:
        client = LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())
        tasks = client.next_task_ids(project, 0, look)
        bench = build_workbench(settings)
        found = rank(bench, client, project, track(tasks, "looking", console=console, transient=True))
    except LabelStudioError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(1) from None
    table = Table("task", "score", "masks", "predicted IoU", "agreement", "familiarity", "why")
    for one in found[:count]:
        c = one.certainty
        figures = [f"{value:.2f}" for value in (c.predicted_iou, c.agreement, c.familiarity)]
        table.add_row(str(one.task), f"{c.score:.3f}", str(one.masks), *figures, c.explain())
    console.print(table)
    console.print("In the Data Manager: Retrieve Predictions, then order by Prediction score, ascending.")


def _start(settings: Settings, training: int, owner: str) -> subprocess.Popen[bytes]:
    from maskloop.jobs.trainer import environment

    command = [sys.executable, "-m", "maskloop.jobs.train", str(training), owner]
    return subprocess.Popen(command, env=environment(settings))


def _follow(ledger: Ledger, training: int, process: subprocess.Popen[bytes] | None) -> Training:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("waiting", total=1.0)
        while True:
            state = ledger.training(training)
            assert state is not None
            progress.update(bar, completed=state.progress, description=state.note or state.state.value)
            if state.state.final or (process is not None and process.poll() not in (None, 0)):
                return state
            time.sleep(0.5)


def register(app: typer.Typer, bench: typer.Typer) -> None:
    app.command()(train)
    app.command()(trainer)
    app.command("next")(next_tasks)
