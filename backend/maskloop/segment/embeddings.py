"""The embedding cache: an image is encoded once, by whichever thread or process comes first.

Memory is the first tier, bounded in bytes, least recently used out first. Disk is the
second, shared by all processes of a machine; an optional shared store (Redis) the third,
shared by all machines. Losing any of them costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from maskloop.segment.prompt import Image
from maskloop.segment.segmenter import Embedding, Segmenter
from maskloop.segment.store import DiskStore
from maskloop.segment.store import SharedStore as SharedStore

log = logging.getLogger(__name__)

SIZE = "__size__"
"""The array that carries an embedding's image size in a stored file."""
CHECKSUM = "crc32"
"""The entry of a stored file's metadata that tells flipped bytes: safetensors itself looks at the header only."""


class Tier(str, Enum):
    """Where an embedding came from. Whoever waited for another's encoding had it from memory."""

    MEMORY = "memory"
    DISK = "disk"
    SHARED = "shared"
    ENCODE = "encode"


class EmbeddingCache:
    """Embeddings by content hash and encoder hash; a retrained decoder invalidates nothing."""

    def __init__(
        self, ram_bytes: int, disk_dir: Path | None = None, disk_bytes: int = 0, shared: SharedStore | None = None
    ) -> None:
        self._ram_bytes = ram_bytes
        self._disk = DiskStore(disk_dir, disk_bytes) if disk_dir is not None and disk_bytes > 0 else None
        self._shared = shared
        self._kept: OrderedDict[str, Embedding] = OrderedDict()
        self._kept_bytes = 0
        self._flights: dict[str, Future[Embedding]] = {}
        self._lock = threading.Lock()

    @property
    def ram_bytes(self) -> int:
        """Bytes of the embeddings kept in memory."""
        return self._kept_bytes

    def contains(self, content: str, encoder: str) -> bool:
        """Whether the embedding is in this process's memory or on this machine's disk."""
        key = cache_key(content, encoder)
        with self._lock:
            if key in self._kept:
                return True
        return self._disk is not None and self._disk.holds(key)

    def get(self, content: str, segmenter: Segmenter, load: Callable[[], Image]) -> Embedding:
        """The embedding of :meth:`find`, wherever it came from."""
        return self.find(content, segmenter, load)[0]

    def find(self, content: str, segmenter: Segmenter, load: Callable[[], Image]) -> tuple[Embedding, Tier]:
        """The embedding of the image whose file has sha256 ``content``; ``load`` is called only if nobody has it.

        Its arrays are read-only. What ``load`` or the encoder raises is raised to everyone who waited for it.
        """
        key = cache_key(content, segmenter.encoder)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept, Tier.MEMORY
            flight = self._flights.get(key)
            first = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        if not first:
            return flight.result(), Tier.MEMORY
        try:
            embedding, tier = self._stored(key, segmenter.encoder) or self._encoded(key, segmenter, load)
        except BaseException as error:
            with self._lock:
                del self._flights[key]
            flight.set_exception(error)
            raise
        with self._lock:
            del self._flights[key]
            self._keep(key, embedding)
        flight.set_result(embedding)
        return embedding, tier

    def _encoded(self, key: str, segmenter: Segmenter, load: Callable[[], Image]) -> tuple[Embedding, Tier]:
        with self._disk.locked(key) if self._disk else contextlib.nullcontext():
            stored = self._stored(key, segmenter.encoder) if self._disk else None
            if stored is not None:
                return stored
            embedding = frozen(segmenter.encode(load()))
            if self._disk or self._shared:
                packed = pack(embedding)
                if self._disk:
                    self._disk.write(key, packed)
                if self._shared:
                    self._shared.set(key, packed)
        return embedding, Tier.ENCODE

    def _stored(self, key: str, encoder: str) -> tuple[Embedding, Tier] | None:
        packed = self._disk.read(key) if self._disk else None
        if packed is not None and self._disk:
            try:
                return unpack(packed, encoder), Tier.DISK
            except ValueError:
                log.warning("removed a damaged or outdated embedding from the cache on disk")
                self._disk.remove(key)
        packed = self._shared.get(key) if self._shared else None
        if packed is not None:
            try:
                return unpack(packed, encoder), Tier.SHARED
            except ValueError:
                log.warning("ignored a damaged or outdated embedding in the shared store")
        return None

    def _keep(self, key: str, embedding: Embedding) -> None:
        if embedding.nbytes > self._ram_bytes:
            return
        self._kept[key] = embedding
        self._kept_bytes += embedding.nbytes
        while self._kept_bytes > self._ram_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.nbytes


def cache_key(content: str, encoder: str) -> str:
    """64 hex digits that stand for one image seen by one encoder."""
    return hashlib.sha256(f"{content}\n{encoder}".encode()).hexdigest()


def frozen(embedding: Embedding) -> Embedding:
    """The same embedding with arrays nobody can write to."""
    arrays = {name: np.ascontiguousarray(array).view() for name, array in embedding.arrays.items()}
    for array in arrays.values():
        array.flags.writeable = False
    return replace(embedding, arrays=MappingProxyType(arrays))


def pack(embedding: Embedding) -> bytes:
    """An embedding as a safetensors file with a checksum."""
    # safetensors writes the buffer of an array as it lies, whatever its strides.
    arrays = {name: np.ascontiguousarray(array) for name, array in embedding.arrays.items()}
    arrays[SIZE] = np.array(embedding.size, np.int32)
    return bytes(save(arrays, {CHECKSUM: _checksum(arrays)}))


def unpack(packed: bytes, encoder: str) -> Embedding:
    """The embedding that :func:`pack` packed. Raises ValueError for anything else."""
    try:
        arrays = load(packed)
        length = int.from_bytes(packed[:8], "little")
        if json.loads(packed[8 : 8 + length])["__metadata__"][CHECKSUM] != _checksum(arrays):
            raise ValueError("not what was stored: the checksum differs")
        height, width = (int(n) for n in arrays.pop(SIZE))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"not a stored embedding: {error}") from None
    return frozen(Embedding(arrays, (height, width), encoder))


def _checksum(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    value = 0
    for name, array in sorted(arrays.items()):
        value = zlib.crc32(array.tobytes(), zlib.crc32(f"{name} {array.dtype} {array.shape} ".encode(), value))
    return f"{value:08x}"
