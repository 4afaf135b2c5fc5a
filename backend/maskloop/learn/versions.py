"""Versions: what a project learned, each a folder that is written whole or not at all.

``<root>/p<project>/<version>/`` is the same kind of folder as a model in ``models/`` (card, weights)
plus the report of its training. ``<root>/p<project>/current`` names the current version: its last
line; the lines above are what was current before, for rolling back.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*-p(?P<project>\d+)-(?P<serial>[A-Za-z0-9.]+)")
_LONGEST_HISTORY = 50
LIVE = "live.json"
"""A file in a version's folder: the labels whose pre-annotation is good enough to be shown."""


class VersionError(Exception):
    """There is no such version, or nothing to go back to; the message says which."""


class Overtaken(VersionError):
    """The current version is another one than the change was made for; the message says which."""


@dataclass(frozen=True)
class Version:
    """A version of a project, and whether it is current."""

    name: str
    project: int
    folder: Path
    created_at: float
    current: bool


class Versions:
    """The versions under ``root``; ``base`` is the version that ships and that every project starts from.

    Any number of processes may use one root. A change of the current version is seen by all of them at
    the next call of :meth:`current`.
    """

    def __init__(self, root: Path, base: str) -> None:
        self.root = root
        self.base = base
        self._family = base.rsplit("-", 1)[0]
        self._seen: dict[int, tuple[tuple[int, int, int], str]] = {}

    def current(self, project: int | None) -> str:
        """The version that answers for a project: its own current one, else the base."""
        if project is None:
            return self.base
        try:
            status = os.stat(self._pointer(project))
        except FileNotFoundError:
            return self.base
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        seen = self._seen.get(project)
        if seen is None or seen[0] != stamp or not self._usable(project, seen[1]):
            history, named = self._history(project), self._named(project)
            seen = (stamp, history[-1])
            if named[-1:] == history[-1:]:  # else the version that is named may be back at any moment
                self._seen[project] = seen
        return seen[1]

    def folder(self, version: str) -> Path | None:
        """The folder of a version, None for the base (it lives in ``models/``).

        Raises VersionError when there is no such version.
        """
        if version == self.base:
            return None
        match = _NAME.fullmatch(version)
        folder = None if match is None else self._home(int(match["project"])) / version
        if folder is None or not (folder / "model.toml").is_file():
            raise VersionError(f"there is no version {version!r} in {self.root}")
        return folder

    def live_labels(self, version: str) -> tuple[str, ...]:
        """The labels that a version proposes masks for without a prompt; none for the base or an unknown version."""
        try:
            folder = self.folder(version)
            found = json.loads((folder / LIVE).read_text()) if folder is not None else []
        except (VersionError, FileNotFoundError, ValueError):
            return ()
        return tuple(str(label) for label in found)

    def list(self, project: int) -> tuple[Version, ...]:
        """A project's versions, oldest first; the base is not among them."""
        home, current = self._home(project), self.current(project)
        found = []
        for folder in home.iterdir() if home.is_dir() else ():
            # A version may be discarded between the listing and the look at it.
            with suppress(FileNotFoundError, NotADirectoryError):
                made = (folder / "model.toml").stat().st_mtime
                if _NAME.fullmatch(folder.name):
                    found.append(Version(folder.name, project, folder, made, folder.name == current))
        return tuple(sorted(found, key=lambda version: (version.created_at, version.name)))

    def projects(self) -> tuple[int, ...]:
        """Projects that have versions."""
        homes = self.root.glob("p*") if self.root.is_dir() else iter(())
        return tuple(sorted(int(home.name[1:]) for home in homes if home.name[1:].isdigit()))

    def publish(self, project: int, serial: str, fill: Callable[[Path], None]) -> str:
        """Make a version (not yet current) of what ``fill`` writes into an empty folder; its name.

        The folder appears under its name only when it is complete and on disk. A serial that was
        published before is left as it is, so a training that is run again publishes once.
        Raises VersionError when ``fill`` left no ``model.toml``.
        """
        name = f"{self.base}-p{project}-{serial}"
        if _NAME.fullmatch(name) is None:
            raise VersionError(f"{serial!r} cannot be part of a version's name: letters, digits and dots only")
        home = self._home(project)
        final = home / name
        if final.is_dir():
            return name
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=home, ignore_cleanup_errors=True) as scratch:
            folder = Path(scratch) / name
            folder.mkdir()
            fill(folder)
            if not (folder / "model.toml").is_file():
                raise VersionError(f"version {name} has no model.toml")
            for path in sorted(folder.rglob("*"), reverse=True):
                _sync(path)
            _sync(folder)
            try:
                os.rename(folder, final)
            except OSError:
                if not final.is_dir():
                    raise
        with self._locked(project):
            for rest in home.glob(".current-*"):
                rest.unlink(missing_ok=True)
        _sync(home)
        return name

    def promote(self, project: int, version: str, instead_of: Container[str] | None = None) -> str:
        """Make a version (or the base) current; what was current before. Seen by every process at once.

        Raises Overtaken when what is current now is neither that version nor one of ``instead_of``.
        """
        if self.folder(version) is not None and not version.startswith(f"{self._family}-"):
            raise VersionError(f"{version} belongs to another model than {self.base}")
        match = _NAME.fullmatch(version)
        if version != self.base and (match is None or int(match["project"]) != project):
            raise VersionError(f"{version} belongs to another project than {project}")
        with self._locked(project):
            history = self._history(project)
            if instead_of is not None and history[-1] != version and history[-1] not in instead_of:
                raise Overtaken(f"{history[-1]} is current by now")
            if history[-1] != version:
                self._write_pointer(project, (*history, version))
            return history[-1]

    def rollback(self, project: int) -> str:
        """Make the version before the current one current again; its name.

        Raises VersionError when the project is at its first version.
        """
        with self._locked(project):
            history = self._history(project)
            if len(history) < 2:
                raise VersionError(f"project {project} is at its first version, {history[-1]}: nothing to roll back to")
            self._write_pointer(project, history[:-1])
            return history[-2]

    def discard(self, project: int, keep: int) -> tuple[str, ...]:
        """Remove all but the ``keep`` newest versions and those that a rollback can reach; what was removed.

        Only the one trainer of a project may call this: it also clears away what a killed one was writing.
        """
        with self._locked(project):
            needed = set(self._history(project))
            old = [v for v in self.list(project) if v.name not in needed][: -keep or None]
            for rest in [*self._home(project).glob(".writing-*"), *self._home(project).glob(".leaving-*")]:
                shutil.rmtree(rest, ignore_errors=True)
            for version in old:
                # Renamed first: a folder is there whole or not at all, also while it goes.
                leaving = version.folder.with_name(f".leaving-{version.name}")
                os.rename(version.folder, leaving)
                shutil.rmtree(leaving)
        return tuple(version.name for version in old)

    def _home(self, project: int) -> Path:
        return self.root / f"p{int(project)}"

    def _pointer(self, project: int) -> Path:
        return self._home(project) / "current"

    def _history(self, project: int) -> tuple[str, ...]:
        """What was current, oldest first, the base in front; versions that are gone or of another model left out."""
        usable = tuple(name for name in self._named(project) if self._usable(project, name))
        return usable if usable[:1] == (self.base,) else (self.base, *usable)

    def _named(self, project: int) -> tuple[str, ...]:
        """What the pointer names, oldest first, whether it is there or not."""
        try:
            return tuple(self._pointer(project).read_text(encoding="utf-8").split())
        except (FileNotFoundError, UnicodeDecodeError):
            return ()

    def _usable(self, project: int, name: str) -> bool:
        if name == self.base:
            return True
        return name.startswith(f"{self._family}-") and (self._home(project) / name / "model.toml").is_file()

    def _write_pointer(self, project: int, history: tuple[str, ...]) -> None:
        pointer = self._pointer(project)
        handle, scratch = tempfile.mkstemp(prefix=".current-", dir=pointer.parent)
        try:
            with os.fdopen(handle, "w") as file:
                file.write("\n".join(history[-_LONGEST_HISTORY:]) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.chmod(scratch, 0o644)
            os.replace(scratch, pointer)
        except OSError:
            os.unlink(scratch)
            raise
        _sync(pointer.parent)

    @contextmanager
    def _locked(self, project: int) -> Iterator[None]:
        home = self._home(project)
        home.mkdir(parents=True, exist_ok=True)
        with open(home / ".lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
