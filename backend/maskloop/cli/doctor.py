"""``maskloop doctor``: what is wrong between Label Studio and MaskLoop, and how to put it right."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from maskloop.labelstudio.checkup import Door, Finding, See
    from maskloop.settings import Settings

SIGNS = {
    "good": "[green]✓[/]",
    "fixed": "[cyan]✓[/]",
    "warning": "[yellow]![/]",
    "problem": "[bold red]✗[/]",
}


def doctor(
    label_studio: Annotated[str, typer.Option(help="URL of Label Studio; by default LABEL_STUDIO_URL.")] = "",
    api_key: Annotated[str, typer.Option(help="Token; by default LABEL_STUDIO_API_KEY.")] = "",
    project: Annotated[int, typer.Option(help="Project to look at; by default every connected one.")] = 0,
    backend: Annotated[str, typer.Option(help="MaskLoop's URL as Label Studio knows it.")] = "",
    fix: Annotated[bool, typer.Option("--fix", help="Put right what Label Studio's API allows.")] = False,
) -> None:
    """Say in plain words what keeps Label Studio and MaskLoop apart, and how to fix it.

    Looks at the token, private addresses, the connection, its webhook, the labeling config,
    the model version that scores depend on, and one image. The exit status is 1 when something is wrong.
    """
    from rich.console import Console

    from maskloop.labelstudio.checkup import Verdict, examine
    from maskloop.settings import Settings, check_url

    settings = Settings()
    url = (label_studio or settings.label_studio_url).rstrip("/")
    if not url:
        raise typer.BadParameter("Say where Label Studio is: --label-studio http://localhost:8080.")
    for option, given in (("--label-studio", url), ("--backend", backend)):
        try:
            check_url(given, "http", "https")
        except ValueError as error:
            raise typer.BadParameter(f"{given}: {error}", param_hint=option) from None
    key = api_key or settings.label_studio_api_key.get_secret_value()
    console = Console()
    verdicts = []
    for finding in examine(url, key, _door(backend, settings), _see(url, key, settings), project or None, fix):
        console.print(_line(finding), soft_wrap=True, highlight=False)
        verdicts.append(finding.verdict)
    wrong = verdicts.count(Verdict.PROBLEM)
    well = "It works; see the remarks above." if Verdict.WARNING in verdicts else "All is well."
    console.print(f"\n[bold red]{wrong} to fix.[/]" if wrong else f"\n[bold green]{well}[/]")
    raise typer.Exit(1 if wrong else 0)


def _door(backend: str, settings: Settings) -> Door:
    from maskloop.labelstudio.checkup import Door

    return Door(
        url=(backend or f"http://localhost:{settings.port}").rstrip("/"),
        user=settings.basic_auth_user,
        password=settings.basic_auth_pass.get_secret_value(),
        webhook_secret=settings.webhook_secret.get_secret_value(),
    )


def _see(url: str, api_key: str, settings: Settings) -> See:
    """Fetch images as MaskLoop does, but never from its cache."""
    from maskloop.labelstudio.images import FetchOptions, ImageStore

    def see(image: str, task: int) -> tuple[int, int]:
        with TemporaryDirectory() as folder:
            options = FetchOptions(
                label_studio_url=url,
                api_key=api_key,
                allowed_hosts=settings.allowed_image_hosts,
                local_files_root=settings.local_files_root,
                cache_dir=Path(folder),
            )
            height, width = ImageStore(options).load(image, task).pixels.shape[:2]
        return width, height

    return see


def _line(finding: Finding) -> str:
    from rich.markup import escape

    remedy = f"\n  [dim]→[/] {escape(finding.remedy)}" if finding.remedy else ""
    return f"{SIGNS[finding.verdict.value]} [bold]{escape(finding.about)}[/]: {escape(finding.says)}{remedy}"


def register(app: typer.Typer, bench: typer.Typer) -> None:
    app.command()(doctor)
