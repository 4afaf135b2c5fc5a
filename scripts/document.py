"""Write docs/settings.md and docs/commands.md from the code: `make docs`."""

from __future__ import annotations

import inspect
from pathlib import Path

import click
import typer

from maskloop.cli import build
from maskloop.settings import Settings, environment_names

DOCS = Path(__file__).resolve().parents[1] / "docs"
GENERATED = "<!-- Written by `make docs`. -->\n"

SETTINGS = """# Settings

Nothing needs to be set. What is set comes from the environment, or from a file `.env` in the folder where MaskLoop is
started (environment first). The names that Label Studio's own backends use work as they are.

| variable | default | what it does |
|---|---|---|
"""

COMMANDS = """# Commands

`maskloop COMMAND --help` says the same. In a checkout, commands are in `.venv/bin`.
"""


def settings() -> str:
    rows = []
    for field, names in environment_names().items():
        info = Settings.model_fields[field]
        spelled = f"`{names[0]}`" + "".join(f" or `{name}`" for name in names[1:])
        rows.append(f"| {spelled} | {_default(field, info.get_default())} | {info.description} |\n")
    return GENERATED + SETTINGS + "".join(rows)


def _default(field: str, value: object) -> str:
    if field == "data_dir":
        return "`~/.local/share/maskloop`"
    if field == "models_dir":
        return "`models/`"
    text = "" if value is None or "Secret" in type(value).__name__ else str(value)
    return f"`{text.lower() if isinstance(value, bool) else text}`" if text else ""


def commands() -> str:
    group = typer.main.get_command(build())
    return GENERATED + COMMANDS + "".join(_command(group, ["maskloop"]))


def _command(command: click.Command, path: list[str]) -> list[str]:
    if hasattr(command, "commands"):
        alone = _entry(command, path) if command.invoke_without_command and len(path) > 1 else []
        return alone + [text for name, child in command.commands.items() for text in _command(child, [*path, name])]
    return _entry(command, path)


def _entry(command: click.Command, path: list[str]) -> list[str]:
    lines = [f"\n## `{' '.join(path)}`\n\n{inspect.cleandoc(command.help or '')}\n"]
    context = click.Context(command)
    rows = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if parameter.name == "help" or (parameter.param_type_name == "option" and record is None):
            continue
        name = record[0] if record else parameter.human_readable_name
        text = getattr(parameter, "help", "") or (record[1] if record else "")
        rows.append("| `{}` | {} |\n".format(*(cell.replace("\n", " ").replace("|", "\\|") for cell in (name, text))))
    if rows:
        lines.append("\n| | |\n|---|---|\n" + "".join(rows))
    return lines


if __name__ == "__main__":
    (DOCS / "settings.md").write_text(settings())
    (DOCS / "commands.md").write_text(commands())
