from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from maskloop.segment.embeddings import SIZE, EmbeddingCache, Tier, frozen, pack, unpack
from maskloop.segment.prompt import Image, Prompt
from maskloop.segment.segmenter import Embedding, Prediction


class Counting:
    """A segmenter whose embedding is one byte in a hundred, and which counts its encodings."""

    name = "counting"

    def __init__(self, encoder: str = "e1", seconds: float = 0.0) -> None:
        self.encoder = encoder
        self.seconds = seconds
        self.encoded = 0

    def encode(self, image: Image) -> Embedding:
        self.encoded += 1
        time.sleep(self.seconds)
        return Embedding({"x": np.full(100, image.flat[0], np.uint8)}, (image.shape[0], image.shape[1]), self.encoder)

    def decode(self, embedding: Embedding, prompt: Prompt) -> Prediction:
        raise AssertionError("a cache of embeddings has no business with decoding")


class Dictionary:
    """A shared store as simple as can be."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def set(self, key: str, value: bytes) -> None:
        self.values[key] = value


def picture(value: int = 7) -> Image:
    return np.full((4, 6, 3), value, np.uint8)


def never() -> Image:
    raise AssertionError("the image was loaded again")


def test_the_second_click_does_not_encode(tmp_path: Path) -> None:
    cache, model = EmbeddingCache(1000), Counting()
    first, tier = cache.find("c", model, picture)
    assert tier is Tier.ENCODE
    again, tier = cache.find("c", model, never)
    assert again is first
    assert tier is Tier.MEMORY
    assert model.encoded == 1
    assert first.size == (4, 6)


def test_what_it_gives_cannot_be_written_to(tmp_path: Path) -> None:
    for cache in (EmbeddingCache(1000, tmp_path, 10_000), EmbeddingCache(0, tmp_path, 10_000)):
        embedding = cache.get("c", Counting(), picture)
        with pytest.raises(ValueError, match="read-only"):
            embedding.arrays["x"][0] = 1  # type: ignore[index]
        with pytest.raises(TypeError):
            embedding.arrays["y"] = embedding.arrays["x"]  # type: ignore[index]


def test_another_encoder_is_another_embedding() -> None:
    cache = EmbeddingCache(1000)
    one, two = Counting("e1"), Counting("e2")
    assert cache.get("c", one, picture).encoder == "e1"
    assert cache.get("c", two, picture).encoder == "e2"
    assert cache.contains("c", "e2")
    assert not cache.contains("c", "e3")


def test_memory_is_bounded_and_the_least_recently_used_goes_first() -> None:
    cache, model = EmbeddingCache(250), Counting()
    cache.get("a", model, picture)
    cache.get("b", model, picture)
    cache.get("a", model, never)
    cache.get("c", model, picture)
    assert cache.ram_bytes == 200
    assert [cache.contains(name, "e1") for name in "abc"] == [True, False, True]


def test_an_embedding_larger_than_the_bound_is_answered_and_not_kept() -> None:
    cache, model = EmbeddingCache(50), Counting()
    cache.get("a", model, picture)
    assert cache.ram_bytes == 0
    cache.get("a", model, picture)
    assert model.encoded == 2


def test_threads_that_ask_at_once_encode_once() -> None:
    cache, model = EmbeddingCache(1000), Counting(seconds=0.05)
    barrier = threading.Barrier(8)

    def ask(_: int) -> tuple[Embedding, Tier]:
        barrier.wait()
        return cache.find("c", model, picture)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert model.encoded == 1
    assert all(embedding is answers[0][0] for embedding, _ in answers)
    assert sorted(tier.value for _, tier in answers) == ["encode"] + 7 * ["memory"]


def test_a_failure_reaches_everyone_who_waits_and_is_not_remembered() -> None:
    cache, model = EmbeddingCache(1000), Counting()
    loading, waiting = threading.Event(), threading.Event()

    def broken() -> Image:
        loading.set()
        assert waiting.wait(10)
        raise OSError("the file is broken")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, "c", model, broken)
        assert loading.wait(10)
        second = pool.submit(cache.get, "c", model, never)
        time.sleep(0.05)
        waiting.set()
        for answer in (first, second):
            with pytest.raises(OSError, match="the file is broken"):
                answer.result(10)
    assert cache.get("c", model, picture).arrays["x"][0] == 7


def test_disk_outlives_the_process_and_is_bounded(tmp_path: Path) -> None:
    model = Counting()
    size = len(pack(Counting().encode(picture())))
    cache = EmbeddingCache(0, tmp_path, 2 * size + 1)
    for name in "ab":
        cache.get(name, model, picture)
        time.sleep(0.02)
    cache.get("a", model, never)
    cache.get("c", model, picture)
    fresh = EmbeddingCache(1000, tmp_path, 2 * size + 1)
    assert [fresh.contains(name, "e1") for name in "abc"] == [True, False, True]
    embedding, tier = fresh.find("a", model, never)
    np.testing.assert_array_equal(embedding.arrays["x"], np.full(100, 7, np.uint8))
    assert tier is Tier.DISK
    assert sum(path.stat().st_size for path in tmp_path.iterdir() if path.is_file()) <= 2 * size + 1


@pytest.mark.parametrize("damage", [b"", b"\xff" * 40, "half", "foreign", "flipped", "unchecked"])
def test_a_damaged_file_is_a_miss(tmp_path: Path, damage: bytes | str) -> None:
    model = Counting()
    EmbeddingCache(0, tmp_path, 10_000).get("c", model, picture)
    (stored,) = tmp_path.glob("*.safetensors")
    whole = stored.read_bytes()
    if damage == "foreign":
        damage = pack(frozen(Embedding({"x": np.zeros(1)}, (1, 1), "e1"))).replace(b"__size__", b"__siez__")
    if damage == "flipped":
        damage = whole[:-5] + bytes([whole[-5] ^ 0x10]) + whole[-4:]
    if damage == "unchecked":
        damage = save({"x": np.full(100, 7, np.uint8), SIZE: np.array([4, 6], np.int32)})
    stored.write_bytes(whole[: len(whole) // 2] if damage == "half" else damage)  # type: ignore[arg-type]
    cache = EmbeddingCache(0, tmp_path, 10_000)
    assert cache.find("c", model, lambda: picture(9))[1] is Tier.ENCODE
    assert cache.get("c", model, never).arrays["x"][0] == 9


def test_a_full_disk_costs_time_and_nothing_else(tmp_path: Path) -> None:
    cache, model = EmbeddingCache(0, tmp_path, 10_000), Counting()
    (tmp_path / "locks").rmdir()
    tmp_path.rmdir()
    assert cache.get("c", model, picture).size == (4, 6)


def test_a_folder_that_cannot_be_used_is_said_once_and_done_without(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    model = Counting()
    cache = EmbeddingCache(0, tmp_path / "file" / "embeddings", 10_000)
    for name in "aab":
        assert cache.get(name, model, picture).size == (4, 6)
    assert not cache.contains("a", "e1")
    assert model.encoded == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "MASKLOOP_DATA_DIR" in caplog.text


def test_a_folder_that_is_lost_while_it_is_used_costs_time_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "embeddings"
    cache, model = EmbeddingCache(0, folder, 10_000), Counting()
    cache.get("a", model, picture)
    folder.rename(tmp_path / "away")
    folder.write_text("no folder")
    for name in "ab":
        assert cache.get(name, model, picture).size == (4, 6)
    assert len(caplog.records) == 1
    folder.unlink()
    (tmp_path / "away").rename(folder)
    cache.get("a", model, never)
    cache.get("b", model, picture)
    cache.get("b", model, never)


def test_a_folder_that_can_only_be_read_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs as root can be kept from nothing by file modes, so the system's answer is played here."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    model = Counting()
    EmbeddingCache(0, tmp_path, 10_000).get("c", model, picture)
    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    cache = EmbeddingCache(0, tmp_path, 10_000)
    assert cache.get("c", model, never).arrays["x"][0] == 7
    assert cache.get("d", model, picture).arrays["x"][0] == 7


def test_the_shared_store_serves_every_machine(tmp_path: Path) -> None:
    shared, model = Dictionary(), Counting()
    EmbeddingCache(1000, tmp_path / "one", 10_000, shared).get("c", model, picture)
    other = EmbeddingCache(1000, None, 0, shared)
    embedding, tier = other.find("c", model, never)
    assert embedding.arrays["x"][0] == 7
    assert tier is Tier.SHARED
    (key,) = shared.values
    shared.values[key] = b"junk"
    assert EmbeddingCache(1000, None, 0, shared).get("c", model, lambda: picture(8)).arrays["x"][0] == 8


def test_what_is_packed_is_unpacked_the_same() -> None:
    arrays: dict[str, np.ndarray] = {
        "h": np.arange(24, dtype=np.float16).reshape(2, 3, 4).transpose(2, 0, 1),
        "u": np.zeros((0, 3), np.uint8),
    }
    embedding = unpack(pack(Embedding(arrays, (1, 2), "e")), "e")
    assert (embedding.size, embedding.encoder) == ((1, 2), "e")
    for name, array in arrays.items():
        np.testing.assert_array_equal(embedding.arrays[name], array)
        assert np.asarray(embedding.arrays[name]).dtype == array.dtype


PROCESS = """
import sys, time
from pathlib import Path
import numpy as np
from maskloop.segment.embeddings import EmbeddingCache
from maskloop.segment.segmenter import Embedding

class Model:
    name, encoder = "model", "e"
    def encode(self, image):
        with open(sys.argv[2], "a") as log:
            log.write("encoded\\n")
        time.sleep(0.3)
        return Embedding({"x": np.full(10, image.flat[0], np.uint8)}, image.shape[:2], "e")

sys.stdin.readline()
cache = EmbeddingCache(1000, Path(sys.argv[1]), 10_000)
print(cache.get("content", Model(), lambda: np.full((2, 2, 3), 5, np.uint8)).arrays["x"][0])
"""


def test_two_processes_that_ask_at_once_encode_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-c", PROCESS, str(tmp_path / "cache"), str(log)]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    assert [worker.communicate(timeout=60)[0].strip() for worker in workers] == ["5", "5"]
    assert log.read_text() == "encoded\n"
