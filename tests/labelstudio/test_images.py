from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskloop.labelstudio import files
from maskloop.labelstudio.files import DiskCache
from maskloop.labelstudio.images import FetchOptions, ImageError, ImageStore

from .server import Handler, Server, encoded, pixels, redirect, reply, serving

PIXELS = pixels()
PNG = encoded(PIXELS)
UPLOAD = "/data/upload/1/cat.png"


@pytest.fixture
def studio() -> Iterator[Server]:
    with serving() as server:
        server.routes[UPLOAD] = reply(PNG)
        yield server


def store(server: Server | None = None, **options: object) -> ImageStore:
    given = {"label_studio_url": server.url} if server else {}
    return ImageStore(FetchOptions(**{**given, **options}))  # type: ignore[arg-type]


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


# Tokens


def jwt(kind: str, life: float = 300.0) -> str:
    claims = {"token_type": kind, "iat": 1000, "exp": 1000 + life}
    parts = [{"alg": "HS256"}, claims]
    text = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*text, f"signature{time.monotonic_ns()}"])


def exchanging(studio: Server, personal: str, life: float = 300.0) -> list[str]:
    """A Label Studio that takes only access tokens made from ``personal``; returns those it handed out."""
    given: list[str] = []

    def refresh(request: Handler) -> None:
        if json.loads(request.body) != {"refresh": personal}:
            return reply(b'{"detail": "Token is invalid"}', 401)(request)
        given.append(jwt("access", life))
        return reply(json.dumps({"access": given[-1]}).encode())(request)

    def upload(request: Handler) -> None:
        good = bool(given) and request.headers.get("Authorization") == f"Bearer {given[-1]}"
        reply(PNG if good else b"", 200 if good else 401)(request)

    studio.routes["/api/token/refresh/"] = refresh
    studio.routes[UPLOAD] = studio.routes["/data/upload/1/dog.png"] = upload
    return given


def test_a_personal_token_is_exchanged_once(studio: Server) -> None:
    personal = jwt("refresh")
    given = exchanging(studio, personal)
    images = store(studio, api_key=personal)
    images.load(UPLOAD)
    images.load("/data/upload/1/dog.png")
    assert len(given) == 1
    assert personal not in str(studio.seen)


def test_an_access_token_is_renewed_before_it_expires(studio: Server) -> None:
    personal = jwt("refresh")
    given = exchanging(studio, personal, life=1.0)
    images = store(studio, api_key=personal)
    images.load(UPLOAD)
    images.load("/data/upload/1/dog.png")
    assert len(given) == 2


def test_an_access_token_is_renewed_when_it_is_refused(studio: Server) -> None:
    personal = jwt("refresh")
    given = exchanging(studio, personal)
    images = store(studio, api_key=personal)
    images.load(UPLOAD)
    given.append("revoked")
    images.load("/data/upload/1/dog.png")
    assert len(given) == 3


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("", "Set LABEL_STUDIO_API_KEY"),
        ("ab" * 20, "Legacy tokens are off"),
        (jwt("refresh"), "did not take the personal access token"),
    ],
)
def test_a_refused_token_says_what_to_do_and_not_what_it_was(studio: Server, key: str, words: str) -> None:
    exchanging(studio, "another")
    with pytest.raises(ImageError, match=words) as caught:
        store(studio, api_key=key).load(UPLOAD)
    assert not key or key not in str(caught.value)
    assert not key or key not in repr(FetchOptions(api_key=key))


def test_without_label_studio_the_setting_is_named() -> None:
    with pytest.raises(ImageError, match="LABEL_STUDIO_URL is not set"):
        store().load(UPLOAD)


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://studio", "http://", "http://me:secret@studio"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ImageError, match=r"LABEL_STUDIO_URL.*Write it like") as caught:
        ImageStore(FetchOptions(label_studio_url=url))
    assert "secret" not in str(caught.value)


def test_an_unreachable_label_studio_is_named() -> None:
    with serving() as gone:
        pass
    with pytest.raises(ImageError, match="Is LABEL_STUDIO_URL right"):
        store(gone).load(UPLOAD)


def test_a_missing_file_says_so(studio: Server) -> None:
    with pytest.raises(ImageError, match="Label Studio does not have that file"):
        store(studio).load("/data/upload/1/gone.png")


# Caches


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


def test_a_cache_that_cannot_be_written_costs_nothing(studio: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    images = store(studio, cache_dir=tmp_path / "file")
    assert np.array_equal(images.load(UPLOAD).pixels, PIXELS)


# Local files


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
