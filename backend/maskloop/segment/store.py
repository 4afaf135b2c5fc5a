"""Where embeddings are kept beyond one process: files on disk, and what a shared store must offer."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

LOCK_SECONDS = 60.0
"""Longest another process is waited for; after that an image is encoded twice rather than not at all."""


class SharedStore(Protocol):
    """Bytes by key, seen by every machine.

    Its owner bounds and expires it. One that cannot be reached answers None and keeps
    nothing; it never raises.
    """

    def get(self, key: str) -> bytes | None: ...

    def set(self, key: str, value: bytes) -> None: ...


class DiskStore:
    """Files named by key, the least recently used removed first; a file's mtime is its last use."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._failing = False
        try:
            (folder / "locks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._failed(error)

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def holds(self, key: str) -> bool:
        try:
            return self.path(key).is_file()
        except OSError:
            return False

    def read(self, key: str) -> bytes | None:
        path = self.path(key)
        try:
            packed = path.read_bytes()
        except OSError:
            return None
        # On a folder that can only be read there is nothing to remove, so no last use to remember either.
        with contextlib.suppress(OSError):
            os.utime(path)
        return packed

    def write(self, key: str, packed: bytes) -> None:
        if len(packed) > self.limit:
            return
        partial = self.folder / f"{key}.{os.getpid()}.{threading.get_ident()}.partial"
        try:
            with partial.open("wb") as file:
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path(key))
            self._trim()
            self._failing = False
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            self._failed(error)

    def remove(self, key: str) -> None:
        with contextlib.suppress(OSError):
            self.path(key).unlink()

    @contextlib.contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Hold the key among all processes of this machine; go ahead without when it takes too long."""
        # 256 lock files in all: two images that share one merely wait for each other.
        lock = FileLock(self.folder / "locks" / f"{key[:2]}.lock")
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            log.warning("encoding without the lock: %s", error)
        except OSError as error:
            self._failed(error)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                lock.release()

    def _failed(self, error: OSError) -> None:
        """Say that the folder does not work, once until it works again."""
        if not self._failing:
            self._failing = True
            log.warning("no embeddings are kept on disk: %s; see MASKLOOP_DATA_DIR, the rest goes on", error)

    def _trim(self) -> None:
        files: list[tuple[float, int, str]] = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                # Another process may remove the file between the listing and the look at it.
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file():
                        stat = entry.stat()
                        files.append((stat.st_mtime, stat.st_size, entry.path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self.limit:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size
