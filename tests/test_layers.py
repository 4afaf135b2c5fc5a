"""Imports go down only, as CONTRIBUTING.md draws it; read from the code, so that an import inside a function counts."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "backend" / "maskloop"

EVERYBODY = {"settings", "metrics", "log", "__version__"}

MAY_IMPORT = {
    "adapter": set(),
    "queue": set(),
    "ledger": set(),
    "segment": set(),
    "demo": set(),
    "labelstudio": {"segment"},
    "learn": {"segment", "ledger"},
    "load": {"segment", "ledger", "learn", "labelstudio", "demo"},
    "jobs": {"segment", "ledger", "learn", "labelstudio", "queue"},
    "web": {"segment", "ledger", "learn", "labelstudio", "queue", "jobs"},
    "cli": {"segment", "ledger", "learn", "labelstudio", "queue", "jobs", "web", "demo", "load"},
}
"""Every room but the small modules beside them, and the rooms it may know."""

NEVER = {
    "segment": {"flask", "redis", "rq", "sqlalchemy", "label_studio_sdk"},
    "labelstudio": {"flask", "redis", "rq", "sqlalchemy", "torch"},
    "queue": {"flask", "torch", "sqlalchemy", "label_studio_sdk"},
    "ledger": {"flask", "redis", "rq", "torch", "label_studio_sdk"},
    "web": {"torch", "transformers", "redis", "rq", "sqlalchemy", "label_studio_sdk"},
}
"""Libraries that a room does without. That a web process does not load torch by a detour is web/test_light.py's."""


def imports(room: str) -> Iterator[tuple[str, str]]:
    """Every import in a room: where it stands, and the whole name that it takes."""
    for path in sorted((PACKAGE / room).rglob("*.py")):
        yield from imports_of(path)


def imports_of(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((f"{path.relative_to(PACKAGE)}:{node.lineno}", alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                (f"{path.relative_to(PACKAGE)}:{node.lineno}", f"{node.module}.{alias.name}") for alias in node.names
            )


def test_every_room_is_in_the_drawing() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_down_only(room: str) -> None:
    taken = {(where, name.split(".")[1]) for where, name in imports(room) if name.startswith("maskloop.")}
    allowed = MAY_IMPORT[room] | EVERYBODY | {room}
    assert {(where, other) for where, other in taken if other not in allowed} == set()


@pytest.mark.parametrize("room", NEVER)
def test_a_room_does_without(room: str) -> None:
    taken = {(where, name.split(".")[0]) for where, name in imports(room)}
    assert {(where, library) for where, library in taken if library in NEVER[room]} == set()


def test_no_two_modules_need_each_other() -> None:
    modules = {path: ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    needs: dict[str, set[str]] = {}
    for path, module in modules.items():
        taken = {name for _, name in imports_of(path)}
        parents = {name.rpartition(".")[0] for name in taken}
        needs[module] = (taken | parents) & set(modules.values()) - {module}
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle
