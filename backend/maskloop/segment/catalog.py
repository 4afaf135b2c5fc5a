"""The models there are: each a folder with a card, and weights or where to get them.

A family is a module of :mod:`maskloop.segment` (or of its ``classical`` package) with a
function ``load(source: Source) -> Segmenter``. Nothing is registered anywhere: a new
family is one such module, a new model one folder whose card names a family. This module
imports no torch, so that a web process can ask for names and versions.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from maskloop.segment.card import CARD, Card, ModelError, check_files, find_files, read_card, sha256
from maskloop.segment.segmenter import Segmenter

PACKAGES = ("maskloop.segment", "maskloop.segment.classical")


@dataclass(frozen=True)
class Source:
    """What a family loads a model from.

    ``base`` is the folder of the model named by ``card.base``, None without one;
    ``device`` is "auto", "cpu", "cuda" or "cuda:N"; ``threads`` 0 means all cores.
    """

    card: Card
    folder: Path
    base: Path | None = None
    device: str = "auto"
    threads: int = 0


Loader: TypeAlias = Callable[[Source], Segmenter]


class Catalog:
    """The models in ``models_dir``, and those that were pulled or added in ``data_dir``/models.

    A folder in the data directory hides the one of the same name that came with the
    program: a pulled model has its weights there, and its card with the recorded sha256.
    """

    def __init__(self, models_dir: Path, data_dir: Path | None = None) -> None:
        self.models_dir = models_dir
        self.pulled_dir = None if data_dir is None else data_dir / "models"
        self._digests: dict[tuple[Path, int, int], str] = {}

    def names(self) -> list[str]:
        """Every model's name, sorted."""
        roots = [self.models_dir, *([self.pulled_dir] if self.pulled_dir else [])]
        return sorted({path.parent.name for root in roots for path in root.glob(f"*/{CARD}")})

    def card(self, name: str) -> Card:
        """The card of one model. Raises ModelError for a name that is not there, naming those that are."""
        folder = self.folder(name)
        card = read_card(folder)
        if card.name != name:
            raise ModelError(f"{folder / CARD}: name is {card.name!r} but its folder is {name!r}; make them the same")
        return card

    def folder(self, name: str) -> Path:
        """The folder of one model. Raises ModelError for a name that is not there."""
        known = self.names()
        if name not in known:
            raise ModelError(f"no model {name!r}; known are {', '.join(known) or 'none'} (folder {self.models_dir})")
        pulled = self.pulled_dir and self.pulled_dir / name
        return pulled if pulled and (pulled / CARD).is_file() else self.models_dir / name

    def available(self, name: str) -> bool:
        """Whether the model's files are all there, so that it can be loaded now."""
        folder = self.folder(name)
        return all((folder / file).is_file() for file in self.card(name).files)

    def find(self, name: str) -> None:
        """See that all files of a model and of its base are here. Raises ModelError naming the first that is not."""
        card = self.card(name)
        for folder in (self.folder(name), *([self.folder(card.base)] if card.base else [])):
            find_files(folder, read_card(folder))

    def version(self, name: str) -> str:
        """``<name>-<8 hex>``: the first digits of its weights' sha256, of its card's for an engine without weights.

        Raises ModelError when the weights are neither on the card nor here.
        """
        folder, card = self.folder(name), self.card(name)
        digests = [card.files[file] or self._sha256(card, folder / file) for file in card.weights]
        if len(digests) > 1:
            digests = [hashlib.sha256("".join(digests).encode()).hexdigest()]
        return f"{name}-{(digests or [sha256(folder / CARD)])[0][:8]}"

    def load(self, model: str | Path, device: str = "auto", threads: int = 0) -> Segmenter:
        """A model by name, or any folder of the same kind (a retrained version), ready to answer.

        Raises ModelError when its card, a file or its family is missing or is not what the card says.
        """
        folder = model if isinstance(model, Path) else self.folder(model)
        card = read_card(folder)
        load = loader(card.family, folder)
        check_files(folder, card)
        base = self.folder(card.base) if card.base else None
        if base is not None:
            check_files(base, read_card(base))
        return load(Source(card, folder, base, device, threads))

    def _sha256(self, card: Card, path: Path) -> str:
        find_files(path.parent, card)
        stat = path.stat()
        key = (path, stat.st_mtime_ns, stat.st_size)
        if key not in self._digests:
            self._digests[key] = sha256(path)
        return self._digests[key]


def loader(family: str, folder: Path) -> Loader:
    """The ``load`` of a family's module. Raises ModelError when there is no such family."""
    if re.fullmatch(r"[a-z][a-z0-9_]*", family):
        for package in PACKAGES:
            if importlib.util.find_spec(f"{package}.{family}") is not None:
                load: Loader | None = getattr(importlib.import_module(f"{package}.{family}"), "load", None)
                if load is not None:
                    return load
    raise ModelError(f"{folder / CARD}: no family {family!r}: no such module in {' or '.join(PACKAGES)} has a load()")
