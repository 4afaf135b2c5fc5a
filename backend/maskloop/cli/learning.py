"""``maskloop train``, ``trainer``, ``next``: learning from submissions, and what to label next."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from maskloop.ledger import Ledger, Training
    from maskloop.settings import Settings

Project = Annotated[int, typer.Option("--project", "-p", min=1, help="Id of the project in Label Studio.")]


def train(
    project: Project,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stop the project's training instead.")] = False,
) -> None:
    """Train a project now, and show how far it is. The gate decides what becomes of the result.

    If a trainer is running it does the work and this only watches; Ctrl+C then leaves it running.
    """
    from maskloop.ledger import BY_HAND, Ledger, TrainingState
    from maskloop.settings import Settings

    settings = Settings()
    ledger = Ledger(settings.ledger_url)
    try:
        if cancel:
            count = ledger.cancel_training(project)
            typer.echo(f"project {project}: {count} training{'' if count == 1 else 's'} told to stop")
            return
        if project not in ledger.projects():
            typer.secho(
                f"project {project}: no annotation has come. Submit some in Label Studio, MaskLoop connected.",
                fg="red",
                err=True,
            )
            raise typer.Exit(1)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A KeyboardInterrupt may come between a claim and who would give it back.
            signal.signal(number, lambda *_: stop.set())
        done = _see_through(settings, ledger, ledger.request_training(project, BY_HAND), stop)
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
    from maskloop.jobs import trainer as trainers
    from maskloop.log import configure
    from maskloop.settings import Settings

    settings = Settings()
    configure(settings.log_level)
    trainers.serve(settings)


def next_tasks(
    project: Project,
    count: Annotated[int, typer.Option(min=1, help="How many tasks to list.")] = 10,
    look: Annotated[int, typer.Option(min=1, help="How many tasks to look at; the rest of the project is not.")] = 60,
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
    if not any(one.certainty.familiarity for one in found):
        console.print("Nothing was learned in this project yet, so this order says little before its first training.")
    console.print("In the Data Manager: Retrieve Predictions, then order by Prediction score, ascending.")


def _see_through(settings: Settings, ledger: Ledger, asked: Training, stop: threading.Event) -> Training:
    """Show how far a training is until it is done, and do whatever of its project no trainer does.

    That may be another one first: a run that was killed is in the way until its lease is over. When ``stop`` is set,
    what was taken up is given back, and the program exits.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from maskloop.jobs.attempt import Attempt, take_up

    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    attempt: Attempt | None = None
    try:
        with Progress(*columns) as progress:
            bar = progress.add_task("waiting", total=1.0)
            while not stop.is_set():
                if attempt is not None and attempt.over():
                    attempt = None
                state = ledger.training(asked.id)
                assert state is not None
                said = state.state.value if state.state.final else state.note or state.state.value
                progress.update(bar, completed=state.progress, description=said)
                if state.state.final and attempt is None:
                    return state
                if attempt is None:
                    attempt = take_up(settings, ledger, asked.project)
                stop.wait(0.5)
        raise typer.Exit(130)
    finally:
        if attempt is not None:
            attempt.give_back()


def register(app: typer.Typer, bench: typer.Typer) -> None:
    app.command()(train)
    app.command()(trainer)
    app.command("next")(next_tasks)
