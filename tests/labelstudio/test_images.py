from __future__ import annotations

import base64
import hashlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskloop.labelstudio.images import FetchOptions, ImageError, ImageStore

from .server import Handler, Server, encoded, redirect, reply, serving
from .studio import PIXELS, PNG, UPLOAD, store


def test_an_upload(studio: Server) -> None:
    image = store(studio, api_key="ab" * 20).load(UPLOAD, 5)
    assert np.array_equal(image.pixels, PIXELS)
    assert image.content == hashlib.sha256(PNG).hexdigest()
    assert studio.seen == [("GET", UPLOAD, "Token " + "ab" * 20, f"127.0.0.1:{studio.port}")]


def test_a_name_with_an_address_that_nobody_listens_at(studio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """localhost is ::1 first on most machines, and Label Studio listens at 127.0.0.1."""
    real = socket.getaddrinfo

    def lookup(host: Any, *args: Any, **named: Any) -> Any:
        if host == "localhost":
            return [(0, 0, 0, "", (address, studio.port)) for address in ("::1", "127.0.0.1")]
        return real(host, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    images = store(None, label_studio_url=f"http://localhost:{studio.port}")
    assert np.array_equal(images.load(UPLOAD).pixels, PIXELS)


def test_pixels_cannot_be_written_to(studio: Server) -> None:
    image = store(studio).load(UPLOAD)
    with pytest.raises(ValueError, match="read-only"):
        image.pixels[0] = 0


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("/data/local-files/?d=sub/coins.png", "/data/local-files/?d=sub/coins.png"),
        ("upload/1/cat.png", UPLOAD),
        ("/upload/1/cat.png", UPLOAD),
        ("/data/upload/1/d'été 1.png", "/data/upload/1/d'%C3%A9t%C3%A9%201.png"),
        ("/data/upload/1/a..b.png", "/data/upload/1/a..b.png"),
        (
            "s3://bucket/a b.png",
            "/tasks/5/presign/?fileuri=" + base64.urlsafe_b64encode(b"s3://bucket/a b.png").decode(),
        ),
        ("gs://b/c.png", "/tasks/5/presign/?fileuri=" + base64.urlsafe_b64encode(b"gs://b/c.png").decode()),
        (
            "azure-blob://b/c.png",
            "/tasks/5/presign/?fileuri=" + base64.urlsafe_b64encode(b"azure-blob://b/c.png").decode(),
        ),
    ],
)
def test_where_label_studio_keeps_things(studio: Server, url: str, asked: str) -> None:
    studio.routes[asked.split("?")[0]] = reply(PNG)
    assert store(studio, api_key="ab" * 20).load(url, 5).pixels.shape == PIXELS.shape
    assert studio.paths == [asked]
    assert studio.seen[0][2] is not None


def test_label_studio_below_a_path(studio: Server) -> None:
    studio.routes["/ls" + UPLOAD] = reply(PNG)
    for url in (UPLOAD, "/ls" + UPLOAD, f"{studio.url}/ls{UPLOAD}"):
        ImageStore(FetchOptions(label_studio_url=f"{studio.url}/ls/", api_key="ab" * 20)).load(url)
    assert set(studio.paths) == {"/ls" + UPLOAD}
    assert all(authorization for _, _, authorization, _ in studio.seen)


def test_an_allowed_host_gets_no_token(studio: Server) -> None:
    with serving() as other:
        other.routes["/a.png"] = reply(PNG)
        images = store(studio, api_key="ab" * 20, allowed_hosts=frozenset({f"127.0.0.1:{other.port}"}))
        images.load(f"{other.url}/a.png")
        assert other.seen[0][2] is None


def test_a_storage_redirect_leaves_the_token_behind(studio: Server) -> None:
    with serving() as storage:
        storage.routes["/signed"] = reply(PNG)
        studio.routes["/tasks/5/presign/"] = redirect(f"{storage.url}/signed?X-Amz-Signature=s", 303)
        images = store(studio, api_key="ab" * 20, allowed_hosts=frozenset({f"127.0.0.1:{storage.port}"}))
        images.load("s3://bucket/k.png", 5)
        assert studio.seen[0][2] is not None
        assert storage.seen[0][1:3] == ("/signed?X-Amz-Signature=s", None)


@pytest.mark.parametrize("scheme", ["s3", "gs", "azure-blob"])
def test_one_url_in_two_storages_is_two_images(studio: Server, tmp_path: Path, scheme: str) -> None:
    """Two projects may each have a bucket of that name, at different servers or with different keys."""
    others = encoded(255 - PIXELS)
    studio.routes |= {"/tasks/5/presign/": reply(PNG), "/tasks/6/presign/": reply(others)}
    url = f"{scheme}://bucket/k.png"
    for _ in range(2):  # the second time from the disk
        images = store(studio, cache_dir=tmp_path)
        for _ in range(2):
            assert np.array_equal(images.load(url, 5).pixels, PIXELS)
            assert np.array_equal(images.load(url, 6).pixels, 255 - PIXELS)
    assert len(studio.paths) == 2


def test_an_image_is_at_hand_once_it_was_fetched(studio: Server, tmp_path: Path) -> None:
    images = store(studio, cache_dir=tmp_path)
    assert images.at_hand(UPLOAD) is None
    images.load(UPLOAD)
    assert images.at_hand(UPLOAD) is not None
    assert store(studio, cache_dir=tmp_path).at_hand(UPLOAD) is not None
    assert studio.paths == [UPLOAD]


def test_data_urls() -> None:
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert np.array_equal(store().load(url).pixels, PIXELS)


def test_the_second_load_asks_nobody(studio: Server, tmp_path: Path) -> None:
    images = store(studio, cache_dir=tmp_path)
    assert images.load(UPLOAD) is images.load(UPLOAD)
    assert np.array_equal(store(studio, cache_dir=tmp_path).load(UPLOAD).pixels, PIXELS)
    assert studio.paths == [UPLOAD]


def test_a_file_that_rots_in_the_cache_is_fetched_again(studio: Server, tmp_path: Path) -> None:
    store(studio, cache_dir=tmp_path).load(UPLOAD)
    (cached,) = tmp_path.glob("??/*")
    cached.write_bytes(PNG[: len(PNG) // 2])
    assert np.array_equal(store(studio, cache_dir=tmp_path).load(UPLOAD).pixels, PIXELS)
    assert len(studio.paths) == 2
    assert cached.read_bytes() == PNG


def test_what_is_no_image_is_not_kept(studio: Server, tmp_path: Path) -> None:
    studio.routes[UPLOAD] = reply(b"<html>Sign in</html>")
    images = store(studio, cache_dir=tmp_path)
    with pytest.raises(ImageError, match="no image of a known kind"):
        images.load(UPLOAD)
    studio.routes[UPLOAD] = reply(PNG)
    assert np.array_equal(images.load(UPLOAD).pixels, PIXELS)


def test_concurrent_loads_fetch_once(studio: Server) -> None:
    def slow(request: Handler) -> None:
        time.sleep(0.2)
        reply(PNG)(request)

    studio.routes[UPLOAD] = slow
    images, found = store(studio), []
    threads = [threading.Thread(target=lambda: found.append(images.load(UPLOAD))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(image) for image in found}) == 1
    assert len(found) == 6
    assert studio.paths == [UPLOAD]


def test_decoded_images_are_kept_within_a_budget(studio: Server) -> None:
    for name in "ab":
        studio.routes[f"/data/upload/1/{name}.png"] = reply(PNG)
    images = store(studio, ram_bytes=PIXELS.nbytes + 100)
    for name in "abab":
        images.load(f"/data/upload/1/{name}.png")
    assert len(studio.paths) == 4


def test_an_inline_image_counts_with_its_url(studio: Server) -> None:
    images = store(studio, ram_bytes=10_000)
    images.load(UPLOAD)
    images.load("data:image/png;base64," + base64.b64encode(PNG + b"x" * 10_000).decode())
    images.load(UPLOAD)
    assert len(studio.paths) == 2


def test_a_cache_that_cannot_be_written_costs_nothing(studio: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    images = store(studio, cache_dir=tmp_path / "file")
    assert np.array_equal(images.load(UPLOAD).pixels, PIXELS)
