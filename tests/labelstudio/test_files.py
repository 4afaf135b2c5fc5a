from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from maskloop.labelstudio import files
from maskloop.labelstudio.files import DiskCache
from maskloop.labelstudio.images import ImageError

from .server import Server, encoded, reply
from .studio import PIXELS, PNG, store


def test_the_disk_cache_drops_the_least_recently_used(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, limit=2500)
    for second, name in enumerate("abc"):
        cache.put(name, name.encode() * 1000)
        for path in tmp_path.glob("??/*"):
            os.utime(path, (time.time() - 100 + second, path.stat().st_mtime)) if path.read_bytes()[
                :1
            ] == name.encode() else None
        if name == "b":
            assert cache.get("a") is not None
    assert [cache.get(name) is not None for name in "abc"] == [True, False, True]
    cache.put("huge", b"x" * 3000)
    assert cache.get("huge") is None
    assert not list(tmp_path.glob("??/.part-*"))


def test_the_disk_cache_asks_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DiskCache(tmp_path, limit=2500)
    cache.put("a", b"1")
    assert cache.get("a") == b"1"
    monkeypatch.setattr(files, "FRESH_SECONDS", -1.0)
    assert cache.get("a") is None


def test_local_files_where_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "cat 1.png").write_bytes(PNG)
    images = store(local_files_root=tmp_path)
    for url in (
        "/data/local-files/?d=sub/cat%201.png",
        f"file://{tmp_path}/sub/cat%201.png",
        f"{tmp_path}/sub/cat 1.png",
    ):
        assert np.array_equal(images.load(url).pixels, PIXELS)


def test_local_files_that_are_not_here_come_from_label_studio(studio: Server, tmp_path: Path) -> None:
    studio.routes["/data/local-files/"] = reply(PNG)
    images = store(studio, local_files_root=tmp_path)
    assert np.array_equal(images.load("/data/local-files/?d=a.png").pixels, PIXELS)
    (tmp_path / "b.png").write_bytes(encoded(255 - PIXELS))
    assert np.array_equal(images.load("/data/local-files/?d=b.png").pixels, 255 - PIXELS)
    assert len(studio.paths) == 1


def test_what_is_outside_of_the_folder_is_not_told(studio: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(PNG)
    images = store(studio, local_files_root=root)
    said = set()
    for name in ("secret.png", "nothing.png"):
        with pytest.raises(ImageError) as error:
            images.load(f"/data/local-files/?d=../{name}")
        said.add(str(error.value).replace(name, "..."))
    assert len(said) == 1
    assert studio.paths == []
