"""``maskloop jobs``: what waits, who works, how far batches and trainings are."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from maskloop.ledger import Ledger
    from maskloop.settings import Settings


def jobs(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every two seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the queue, the workers, and the progress of batches and trainings."""
    from rich.console import Console
    from rich.live import Live

    from maskloop.ledger import Ledger
    from maskloop.settings import Settings

    settings = Settings()
    ledger = Ledger(settings.ledger_url)
    if watch and not as_json:
        with Live(refresh_per_second=2) as live:
            while True:
                live.update(tables(snapshot(settings, ledger)))
                time.sleep(2)
    found = snapshot(settings, ledger)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        Console().print(tables(found))
    if found["lanes"] is None and found["problem"]:
        raise typer.Exit(1)


def snapshot(settings: Settings, ledger: Ledger) -> dict[str, Any]:
    """Everything this command shows, as plain JSON."""
    from maskloop.queue.job import JobError
    from maskloop.queue.redis import RedisQueue

    found: dict[str, Any] = {"lanes": None, "workers": None, "problem": None}
    if url := settings.redis_url.get_secret_value():
        queue = RedisQueue(url)
        try:
            depths, ages = queue.depths(), queue.ages()
            found["lanes"] = {
                lane: {"waiting": depths[lane], "oldest_seconds": round(ages[lane], 1)} for lane in depths
            }
            found["workers"] = queue.workers()
            found["problem"] = queue.ready()
        except JobError as error:
            found["problem"] = str(error)
    found["batches"] = [
        {
            "batch": b.batch,
            "project": b.project,
            "version": b.version,
            "total": b.total,
            "waiting": b.waiting,
            "running": b.running,
            "done": b.done,
            "failed": b.failed,
        }
        for b in ledger.batches(limit=20)
    ]
    found["trainings"] = [
        {
            "training": t.id,
            "project": t.project,
            "state": t.state.value,
            "progress": t.progress,
            "note": t.note,
            "version": t.version,
        }
        for project in ledger.projects()
        for t in ledger.trainings(project, limit=3)
    ]
    return found


def tables(found: dict[str, Any]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    parts: list[RenderableType] = []

    def table(title: str, rows: list[dict[str, Any]], empty: str) -> None:
        if not rows:
            parts.append(f"[bold]{title}[/bold]: {empty}")
            return
        grid = Table(title=title, title_justify="left")
        for name in rows[0]:
            grid.add_column(name, overflow="fold")
        for row in rows:
            grid.add_row(*(", ".join(map(str, v)) if isinstance(v, list) else str(v) for v in row.values()))
        parts.append(grid)

    if found["problem"]:
        parts.append(f"[yellow]{found['problem']}[/yellow]")
    if found["lanes"] is None and not found["problem"]:
        parts.append("[bold]Queue[/bold]: inside the server (no REDIS_URL); see its status page")
    elif found["lanes"] is not None:
        table("Queue", [{"lane": lane, **row} for lane, row in found["lanes"].items()], "empty")
        workers = [
            {"worker": name, "device": said["device"], "versions": said["versions"], "pid": said["pid"]}
            for name, said in found["workers"].items()
        ]
        table("Workers", workers, "none is ready")
    table("Batches", found["batches"], "none yet; Retrieve Predictions in the Data Manager starts one")
    table("Trainings", found["trainings"], "none yet")
    return Group(*parts)


def register(app: typer.Typer, bench: typer.Typer) -> None:
    app.command()(jobs)
