"""A task's image: fetched safely, kept for the next click, turned upright."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from maskloop.labelstudio.fetch import Fetcher, FetchOptions
from maskloop.labelstudio.files import FRESH_SECONDS, DiskCache, is_missing, read_local
from maskloop.labelstudio.pixels import upright
from maskloop.labelstudio.urls import ImageAway, ImageError, is_file, shown
from maskloop.segment.prompt import Image

__all__ = ["FetchOptions", "ImageAway", "ImageError", "ImageStore", "LoadedImage"]

STORAGE_SCHEMES = ("s3", "gs", "azure-blob", "azure-spi")


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """``pixels`` H x W x 3, RGB, upright, not to be written to; ``content`` the SHA-256 of the file."""

    pixels: Image
    content: str


class ImageStore:
    """Images by the URL in the task. Safe to share between threads; an image is fetched once at a time."""

    def __init__(self, options: FetchOptions) -> None:
        self.options = options
        self._fetcher = Fetcher(options)
        self._disk = DiskCache(options.cache_dir, options.cache_bytes) if options.cache_dir else None
        self._ram: OrderedDict[str, tuple[float, LoadedImage]] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[str, tuple[threading.Lock, int]] = {}

    def load(self, url: str, task_id: int | None = None) -> LoadedImage:
        """The image of a task.

        Args:
            url: as in the task's data: of Label Studio (``/data/...``), ``http(s)``, ``s3``, ``gs``,
                ``azure-blob``, ``data:``, or a file where that is allowed.
            task_id: needed for images in a storage that Label Studio has the keys of.

        Raises:
            ImageError: with the reason and the setting to change.
        """
        name = _name(url, task_id)
        with self._alone(name):
            image = self.at_hand(url, task_id)
            if image is None:
                data = self._fetcher.get(self._address(url, task_id))
                image = self._decode(data, url)
                if self._disk:
                    self._disk.put(name, data)
                self._keep(name, image)
            return image

    def at_hand(self, url: str, task_id: int | None = None) -> LoadedImage | None:
        """The image if no other machine has to be asked for it, else None. Raises ImageError."""
        name = _name(url, task_id)
        image = self._recent(name)
        if image is None:
            image = self._here(url, name)
            if image is not None:
                self._keep(name, image)
        return image

    def _here(self, url: str, name: str) -> LoadedImage | None:
        if url.startswith("data:"):
            return self._decode(_inline(url, self.options.max_bytes), url)
        local = self._local(url)
        if local is not None:
            return self._decode(local, url)
        cached = self._disk.get(name) if self._disk else None
        if cached is not None:
            # A file that rots on disk is fetched again.
            with suppress(ImageError):
                return self._decode(cached, url)
        return None

    def _decode(self, data: bytes, url: str) -> LoadedImage:
        try:
            pixels = upright(data, self.options.max_pixels)
        except ImageError as error:
            raise ImageError(f"{shown(url)}: {error}") from None
        pixels.flags.writeable = False
        return LoadedImage(pixels, hashlib.sha256(data).hexdigest())

    def _address(self, url: str, task_id: int | None) -> str:
        """Where to ask for what the task names."""
        scheme = _scheme(url)
        if scheme in ("http", "https"):
            return url
        if scheme in STORAGE_SCHEMES:
            if task_id is None:
                raise ImageError(f"{shown(url)} is in a storage of Label Studio, which needs the task's id.")
            uri = base64.urlsafe_b64encode(url.encode()).decode()
            return f"{self._fetcher.label_studio}/tasks/{task_id}/presign/?fileuri={uri}"
        if scheme:
            raise ImageError(f"{shown(url)}: images are not fetched by {scheme!r}.")
        base = self._fetcher.label_studio
        path = url if url.startswith("/") else f"/{url}"
        path = f"/data{path}" if path.startswith("/upload/") else path
        path = path.removeprefix(urlsplit(base).path)
        if not is_file(path.split("?")[0]):
            raise ImageError(f"{shown(url)} is not where Label Studio keeps files (/data/...).")
        return base + path

    def _local(self, url: str) -> bytes | None:
        """The file a task names by path, None if it is not about a local file or the files are not here."""
        root = self.options.local_files_root
        if url.startswith("file:"):
            if root is None:
                raise ImageError(
                    f"{shown(url)}: no local file is read unless MASKLOOP_LOCAL_FILES_ROOT names a folder."
                )
            return read_local(
                root, unquote_to_bytes(urlsplit(url).path).decode(errors="replace"), self.options.max_bytes
            )
        if root is None:
            return None
        if re.match(r"/?data/local-files/?\?", url):
            name = parse_qs(urlsplit(url).query).get("d", [""])[-1].lstrip("/")
            if self.options.label_studio_url and is_missing(root, name):
                return None
            return read_local(root, name, self.options.max_bytes)
        if url.startswith(f"{root}/"):
            return read_local(root, url, self.options.max_bytes)
        return None

    def _recent(self, name: str) -> LoadedImage | None:
        with self._lock:
            until, image = self._ram.get(name, (0.0, None))
            if image is None or until <= time.monotonic():
                return None
            self._ram.move_to_end(name)
            return image

    def _keep(self, name: str, image: LoadedImage) -> None:
        with self._lock:
            self._ram[name] = (time.monotonic() + FRESH_SECONDS, image)
            total = sum(_weight(name, image) for name, (_, image) in self._ram.items())
            while self._ram and total > self.options.ram_bytes:
                oldest, (_, image) = self._ram.popitem(last=False)
                total -= _weight(oldest, image)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """One at a time for one name: the second finds what the first has fetched."""
        with self._lock:
            lock, users = self._loading.get(name, (threading.Lock(), 0))
            self._loading[name] = (lock, users + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, users = self._loading.pop(name)
                if users > 1:
                    self._loading[name] = (lock, users - 1)


def _name(url: str, task_id: int | None) -> str:
    """What an image is kept under. Two projects may have two buckets of one name, so those URLs are a task's own."""
    return f"{url} of task {task_id}" if _scheme(url) in STORAGE_SCHEMES else url


def _scheme(url: str) -> str:
    named = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", url)
    return named[1].lower() if named else ""


def _weight(name: str, image: LoadedImage) -> int:
    """Bytes that keeping an image takes; a ``data:`` URL may be larger than what it holds."""
    return image.pixels.nbytes + len(name)


def _inline(url: str, max_bytes: int) -> bytes:
    """The bytes of a ``data:`` URL."""
    head, comma, body = url.partition(",")
    if not comma or len(body) > 2 * max_bytes:
        raise ImageError(f"a data: URL is broken or larger than {max_bytes / 1e6:g} MB (MASKLOOP_MAX_IMAGE_MB).")
    raw = unquote_to_bytes(body)
    if not head.endswith(";base64"):
        return raw
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4))
    except binascii.Error as error:
        raise ImageError(f"a data: URL is not base64: {error}.") from None
