"""``maskloop versions``, ``promote``, ``rollback``, ``compare``: what projects learned, and what serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from maskloop.learn.versions import Versions
    from maskloop.settings import Settings

Project = Annotated[int, typer.Option("--project", "-p", min=1, help="Id of the project in Label Studio.")]


def versions(
    project: Annotated[int | None, typer.Option("--project", "-p", min=1, help="Only this project.")] = None,
) -> None:
    """List versions: which one is current, and what the gate said about each."""
    from rich.console import Console

    from maskloop.learn import report
    from maskloop.segment.card import damage

    _, found = _open()
    console = Console(highlight=False, markup=False, soft_wrap=True)
    projects = found.projects() if project is None else [project]
    for number in projects:
        console.print(f"project {number}", style="bold")
        if found.current(number) == found.base:
            console.print(f"  {found.base}  (current)\n    the model that ships")
        for version in found.list(number):
            console.print(f"  {version.name}{'  (current)' if version.current else ''}")
            if wrong := damage(version.folder):
                console.print(f"    damaged, the base answers in its place: {wrong}", style="red")
            for line in _about(report.read(version.folder)):
                console.print(f"    {line}", style="dim")
    if not projects:
        console.print("No versions yet: the first training makes one.")


def _about(numbers: dict[str, Any]) -> Iterator[str]:
    """What a report says about its version, in lines."""
    verdict = numbers.get("verdict", {})
    change = next((c for c in verdict.get("against_current", []) if c["metric"] == "noc85"), None)
    if change:
        yield f"clicks to 85 %: {change['first']:.2f} -> {change['second']:.2f}"
    live = [label for label, one in numbers.get("proposals", {}).items() if one["live"]]
    yield f"pre-annotates: {', '.join(live) or 'no label'}"
    if verdict.get("reasons"):
        yield f"the gate: {'; '.join(verdict['reasons'])}"


def promote(version: Annotated[str, typer.Argument(help="Name of the version.")], project: Project) -> None:
    """Make a version current; every process serves it within seconds."""
    from maskloop.jobs import promotions
    from maskloop.learn.versions import VersionError
    from maskloop.ledger import Ledger

    settings, found = _open()
    if wrong := _damage(found, version):
        _fail(f"{version} is damaged: {wrong}")
    ledger = Ledger(settings.ledger_url)
    try:
        previous = promotions.promote(settings, ledger, found, project, version, "person")
    except VersionError as error:
        _fail(str(error))
    finally:
        ledger.close()
    typer.echo(f"project {project}: {version} is current, was {previous}")


def rollback(project: Project) -> None:
    """Go back to the version that was current before."""
    from maskloop.jobs import promotions
    from maskloop.learn.versions import VersionError
    from maskloop.ledger import Ledger

    settings, found = _open()
    ledger = Ledger(settings.ledger_url)
    try:
        version = promotions.rollback(settings, ledger, found, project)
    except VersionError as error:
        _fail(str(error))
    finally:
        ledger.close()
    typer.echo(f"project {project}: {version} is current again")
    if wrong := _damage(found, version):
        _fail(f"but it is damaged, and the base answers in its place: {wrong}")


def compare(
    first: Annotated[str, typer.Argument(help="A version, or the base.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    project: Project,
) -> None:
    """Compare two versions on the project's hold-out, click by click."""
    from rich.console import Console
    from rich.table import Table

    from maskloop.jobs.compare import compare as run

    settings, _ = _open()
    console = Console()
    with console.status("clicking through the hold-out"):
        try:
            changes, objects, images = run(settings, project, first, second)
        except Exception as error:
            _fail(str(error))
    table = Table()
    for name in ("metric", first, second, "95 % interval of the difference (effort: 90 %)"):
        table.add_column(name, overflow="fold")
    for change in changes:
        low, high = f"{change.low:+.3f}", f"{change.high:+.3f}"
        table.add_row(change.metric, f"{change.first:.3f}", f"{change.second:.3f}", f"{low} to {high}")
    console.print(table)
    console.print(f"{objects} objects on {images} held-out images")


def _open() -> tuple[Settings, Versions]:
    from maskloop.learn.versions import Versions
    from maskloop.segment.catalog import Catalog
    from maskloop.settings import Settings

    settings = Settings()
    catalog = Catalog(settings.models_dir, settings.data_dir)
    return settings, Versions(settings.data_dir / "versions", catalog.version(settings.model))


def _damage(found: Versions, version: str) -> str:
    from maskloop.learn.versions import VersionError
    from maskloop.segment.card import damage

    try:
        folder = found.folder(version)
    except VersionError:  # said by what is done with it
        return ""
    return "" if folder is None else damage(folder)


def _fail(message: str) -> Any:
    typer.secho(message, fg="red", err=True)
    raise typer.Exit(1)


def register(app: typer.Typer, bench: typer.Typer) -> None:
    for command in (versions, promote, rollback, compare):
        app.command()(command)
