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
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class CacheStats:
    """Counts since the start. Whoever waited for another's encoding counts as a hit in memory."""

    hits_ram: int = 0
    hits_disk: int = 0
    hits_shared: int = 0
    misses: int = 0
    encode_seconds: float = 0.0


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
        self._stats = CacheStats()
        self._lock = threading.Lock()

    @property
    def stats(self) -> CacheStats:
        """The counts of this process as they are now."""
        return self._stats

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
        """The embedding of the image whose file has sha256 ``content``; ``load`` is called only if nobody has it.

        Its arrays are read-only. What ``load`` or the encoder raises is raised to everyone who waited for it.
        """
        key = cache_key(content, segmenter.encoder)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                self._count(hits_ram=1)
                return kept
            flight = self._flights.get(key)
            first = flight is None
            if flight is None:
                flight = self._flights[key] = Future()
        if not first:
            embedding = flight.result()
            with self._lock:
                self._count(hits_ram=1)
            return embedding
        try:
            embedding = self._fetch(key, segmenter, load)
        except BaseException as error:
            with self._lock:
                del self._flights[key]
            flight.set_exception(error)
            raise
        with self._lock:
            del self._flights[key]
            self._keep(key, embedding)
        flight.set_result(embedding)
        return embedding

    def _fetch(self, key: str, segmenter: Segmenter, load: Callable[[], Image]) -> Embedding:
        stored = self._find(key, segmenter.encoder)
        if stored is not None:
            return stored
        with self._disk.locked(key) if self._disk else contextlib.nullcontext():
            stored = self._find(key, segmenter.encoder) if self._disk else None
            if stored is not None:
                return stored
            image = load()
            started = time.perf_counter()
            embedding = frozen(segmenter.encode(image))
            with self._lock:
                self._count(misses=1, encode_seconds=time.perf_counter() - started)
            if self._disk or self._shared:
                packed = pack(embedding)
                if self._disk:
                    self._disk.write(key, packed)
                if self._shared:
                    self._shared.set(key, packed)
        return embedding

    def _find(self, key: str, encoder: str) -> Embedding | None:
        packed = self._disk.read(key) if self._disk else None
        if packed is not None and self._disk:
            try:
                embedding = unpack(packed, encoder)
            except ValueError:
                log.warning("removed a damaged or outdated embedding from the cache on disk")
                self._disk.remove(key)
            else:
                with self._lock:
                    self._count(hits_disk=1)
                return embedding
        packed = self._shared.get(key) if self._shared else None
        if packed is not None:
            try:
                embedding = unpack(packed, encoder)
            except ValueError:
                log.warning("ignored a damaged or outdated embedding in the shared store")
                return None
            with self._lock:
                self._count(hits_shared=1)
            return embedding
        return None

    def _keep(self, key: str, embedding: Embedding) -> None:
        if embedding.nbytes > self._ram_bytes:
            return
        self._kept[key] = embedding
        self._kept_bytes += embedding.nbytes
        while self._kept_bytes > self._ram_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.nbytes

    def _count(
        self, hits_ram: int = 0, hits_disk: int = 0, hits_shared: int = 0, misses: int = 0, encode_seconds: float = 0.0
    ) -> None:
        old = self._stats
        self._stats = replace(
            old,
            hits_ram=old.hits_ram + hits_ram,
            hits_disk=old.hits_disk + hits_disk,
            hits_shared=old.hits_shared + hits_shared,
            misses=old.misses + misses,
            encode_seconds=old.encode_seconds + encode_seconds,
        )


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
