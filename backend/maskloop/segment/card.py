"""A model's card: the ``model.toml`` in its folder, read once into a frozen dataclass."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CARD = "model.toml"
WEIGHTS = ".safetensors"
"""The only kind of weights file there is: it holds tensors and cannot hold code."""
SAM_EXTRA = "pip install 'maskloop[sam]' (in a checkout: .venv/bin/pip install -e '.[sam]')"
"""How to get what the SAM family needs on top."""

LABELS = "labels"
"""The option that holds the labels a retrained version learned, as a JSON list."""

Number: TypeAlias = int | float
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEXTS = ("name", "family", "licence", "description", "source", "revision", "base")
_TABLES = ("files", "metrics", "options")
_EMPTY: Mapping[str, Any] = MappingProxyType({})


class ModelError(Exception):
    """A model cannot be used; the message says which file or key is at fault and what to do."""


@dataclass(frozen=True)
class Card:
    """What ``model.toml`` says.

    ``files`` maps the name of every file the model needs beside its card to the file's
    sha256, or to "" where it is not known before the first download. ``source`` is a
    hub name (``owner/repository``) or a plain sentence, ``revision`` the commit there.
    ``base`` names the model whose frozen parts this one uses: a version that was
    retrained keeps only its decoder. ``options`` belong to the family.
    """

    name: str
    family: str
    licence: str
    description: str
    source: str = ""
    revision: str = ""
    base: str = ""
    files: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    metrics: Mapping[str, Number] = field(default_factory=lambda: _EMPTY)
    options: Mapping[str, str | Number | bool] = field(default_factory=lambda: _EMPTY)

    @property
    def on_hub(self) -> bool:
        """Whether ``source`` is a hub name, so that the model can be pulled."""
        return _HUB.fullmatch(self.source) is not None

    @property
    def weights(self) -> tuple[str, ...]:
        """The names of the files with weights, sorted; none for an engine without."""
        return tuple(sorted(name for name in self.files if name.endswith(WEIGHTS)))


def read_card(folder: Path) -> Card:
    """The card of a model's folder. Raises ModelError naming the file and the key at fault."""
    path = folder / CARD
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder} is not a model: it has no {CARD}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not TOML: {error}") from None
    if unknown := sorted(set(data) - {*_TEXTS, *_TABLES}):
        raise ModelError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(_TEXTS + _TABLES)}")
    texts = {key: data.get(key, "") for key in _TEXTS}
    tables = {key: data.get(key, {}) for key in _TABLES}
    for key, text in texts.items():
        if not isinstance(text, str) or (key in {"name", "family", "licence", "description"} and not text):
            raise ModelError(f"{path}: {key} must be a text that is not empty")
    for key in ("name", "base"):
        if texts[key] and not _NAME.fullmatch(texts[key]):
            raise ModelError(f"{path}: {key} {texts[key]!r} may have lower-case letters, digits, '.', '_' and '-' only")
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise ModelError(f"{path}: [{key}] must be a table")
    for file, digest in tables["files"].items():
        if file != Path(file).name or file.startswith(".") or file in {"", CARD}:
            raise ModelError(
                f"{path}: [files] {file!r} must be a plain file name in the model's folder, not hidden and not {CARD}"
            )
        if not isinstance(digest, str) or (digest and not _SHA256.fullmatch(digest)):
            raise ModelError(f'{path}: [files] {file!r} must have a sha256 of 64 hex digits, or "" if not known yet')
    for key, value in tables["metrics"].items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ModelError(f"{path}: [metrics] {key} must be a number")
    for key, value in tables["options"].items():
        if not isinstance(value, str | int | float | bool):
            raise ModelError(f"{path}: [options] {key} must be a text, a number or a truth value")
    fields: dict[str, Any] = {**texts, **{key: MappingProxyType(table) for key, table in tables.items()}}
    return Card(**fields)


def write_card(folder: Path, card: Card) -> None:
    """Write ``model.toml`` whole or not at all."""
    lines = [f"{key} = {_toml(value)}" for key in _TEXTS if (value := getattr(card, key))]
    for key in _TABLES:
        if table := getattr(card, key):
            lines += ["", f"[{key}]", *(f"{json.dumps(name)} = {_toml(value)}" for name, value in table.items())]
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{CARD}.{os.getpid()}"
    with partial.open("w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / CARD)


def _toml(value: str | Number | bool) -> str:
    # A JSON text is a TOML basic string, except for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def labels_of(card: Card) -> tuple[str, ...]:
    """The labels that a retrained version learned; none for other models. Raises ModelError when they are damaged."""
    try:
        found = json.loads(str(card.options.get(LABELS, "[]")))
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise ModelError(f"model {card.name}: [options] {LABELS} must be a JSON list of texts")
    return tuple(str(label) for label in found)


def sha256(path: Path) -> str:
    """The sha256 of a file, 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def find_files(folder: Path, card: Card) -> None:
    """Every file of the card is there. Raises ModelError naming the first that is not."""
    for name in card.files:
        if not (folder / name).is_file():
            hint = f"run `maskloop models pull {card.name}`" if card.on_hub else "restore it from the release"
            raise ModelError(f"model {card.name} has no weights: {folder / name} is missing; {hint}")


def check_files(folder: Path, card: Card) -> None:
    """Every file of the card is there and is what the card says. Raises ModelError naming the first that is not."""
    find_files(folder, card)
    for name, expected in card.files.items():
        path = folder / name
        if expected and sha256(path) != expected:
            raise ModelError(f"{path} is not the file its card promises (sha256 differs): delete it and get it again")


def damage(folder: Path) -> str:
    """What is wrong with a model's folder, "" if nothing is."""
    try:
        check_files(folder, read_card(folder))
    except ModelError as error:
        return str(error)
    return ""
