"""Files: downloads kept on disk within a budget, and the folder that tasks may name files in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import time
from pathlib import Path

from maskloop.labelstudio.urls import ImageError

FRESH_SECONDS = 3600.0
"""A URL is asked again after this long: somebody may have replaced the file behind it."""


class DiskCache:
    """Bytes by name. A file is there as a whole or not at all; the least recently used go first.

    Shared by any number of processes: losing a race costs a download and nothing else.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit

    def get(self, name: str) -> bytes | None:
        path = self._path(name)
        try:
            about = path.stat()
            if time.time() - about.st_mtime > FRESH_SECONDS:
                return None
            data = path.read_bytes()
            os.utime(path, (time.time(), about.st_mtime))
        except OSError:
            return None
        return data

    def put(self, name: str, data: bytes) -> None:
        """Keep bytes if they fit. A full or read-only disk is no reason to fail."""
        if len(data) > self._limit:
            return
        path = self._path(name)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            self._trim()

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
        return self._folder / digest[:2] / digest

    def _trim(self) -> None:
        found = []
        for path in self._folder.glob("??/*"):
            with contextlib.suppress(OSError):
                about = path.stat()
                found.append((about.st_atime_ns, about.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self._limit:
                break
            path.unlink(missing_ok=True)
            total -= size


def is_missing(root: Path, name: str) -> bool:
    """Whether a name below the root is no file there. False for one that leads out of it: what is there is not told."""
    path = _below(root, name) if "\0" not in name else None
    return path is not None and not os.path.isfile(path)


def read_local(root: Path, name: str, max_bytes: int) -> bytes:
    """A regular file in a folder, wherever links lead. Raises ImageError.

    ``name`` is a path below the root or an absolute one into it.
    """
    if os.path.realpath(root) == os.sep:
        raise ImageError("MASKLOOP_LOCAL_FILES_ROOT is '/', which would let tasks read every file. Name a folder.")
    if "\0" in name:
        raise ImageError("a file name holds no zero byte.")
    path = _below(root, name)
    if path is None:
        raise ImageError(f"{name!r} is outside of MASKLOOP_LOCAL_FILES_ROOT.")
    try:
        # A pipe would wait for somebody to write, and a device is no image.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ImageError(f"{name!r} below MASKLOOP_LOCAL_FILES_ROOT cannot be read: {error.strerror}.") from None
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise ImageError(f"{name!r} below MASKLOOP_LOCAL_FILES_ROOT is not a regular file.")
        if about.st_size > max_bytes:
            raise ImageError(f"{name!r} is larger than {max_bytes / 1e6:g} MB (MASKLOOP_MAX_IMAGE_MB).")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(max_bytes)
    finally:
        os.close(handle)


def _below(root: Path, name: str) -> str | None:
    """Where a name leads to, links followed; None if that is outside of the root."""
    base = os.path.realpath(root)
    path = os.path.realpath(os.path.join(base, name))
    return path if os.path.commonpath([base, path]) == base else None
