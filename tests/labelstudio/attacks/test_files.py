"""What may be in a file, and which files may be read. Each test is an attack that has to fail."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from maskloop.labelstudio.files import read_local
from maskloop.labelstudio.images import ImageError

from ..server import Server, encoded, pixels
from .door import PNG, inline, refused, store


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [1500, 3000, 60_000, 2**31 - 1])
def test_an_image_with_too_many_pixels_is_not_decoded(side: int) -> None:
    assert "MASKLOOP_MAX_IMAGE_MEGAPIXELS" in refused(store(max_pixels=1_000_000), inline(png_that_claims(side, side)))


def test_a_real_bomb() -> None:
    data = encoded(Image.new("1", (12_000, 12_000)))
    assert len(data) < 50_000
    assert "MASKLOOP_MAX_IMAGE_MEGAPIXELS" in refused(store(max_pixels=100_000_000), inline(data))


@pytest.mark.parametrize("kind", ["PPM", "EPS", "PCX", "ICO", "PDF"])
def test_formats_nobody_needs_are_not_opened(kind: str) -> None:
    assert "no image of a known kind" in refused(store(), inline(encoded(pixels(), kind)))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("keep", [1, 8, 20, 40, 200])
def test_damaged_files(keep: int) -> None:
    refused(store(), inline(PNG[:keep]))
    refused(store(), inline(encoded(pixels(), "TIFF")[:keep]))
    refused(store(), inline(encoded(pixels(), "JPEG")[:keep]))


def test_an_inline_image_that_is_too_large() -> None:
    assert "MASKLOOP_MAX_IMAGE_MB" in refused(store(max_bytes=100), "data:image/png;base64," + "A" * 1000)
    refused(store(), "data:image/png;base64,A")
    refused(store(), "data:image/png;base64")


def test_random_bytes_are_no_image() -> None:
    for seed in range(20):
        noise = io.BytesIO(pixels(seed=seed).tobytes()).getvalue()
        refused(store(), inline(noise))


def test_no_local_file_without_a_folder(studio: Server) -> None:
    for url in ("file:///etc/passwd", "/etc/passwd", "etc/passwd"):
        refused(store(studio), url)
    assert studio.seen == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "cat.png").write_bytes(PNG)
    (tmp_path / "root-secret.png").write_bytes(PNG)
    (root / "link.png").symlink_to(tmp_path / "root-secret.png")
    (root / "linked").symlink_to(tmp_path)
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    return root


@pytest.mark.parametrize(
    "name",
    [
        "../root-secret.png",
        "link.png",
        "linked/root-secret.png",
        "folder.png",
        "pipe.png",
        "gone.png",
        "/etc/passwd",
        "sub/../../root-secret.png",
        "cat.png\0",
        "",
        ".",
    ],
)
def test_nothing_outside_of_the_folder_and_nothing_but_files(folder: Path, name: str) -> None:
    with pytest.raises(ImageError, match=r"MASKLOOP_LOCAL_FILES_ROOT|zero byte"):
        read_local(folder, name, 1_000_000)
    refused(store(local_files_root=folder), f"/data/local-files/?d={name}")
    refused(store(local_files_root=folder), f"file://{folder}/{name}")


def test_files_that_are_too_large_and_folders_that_are_everything(folder: Path) -> None:
    with pytest.raises(ImageError, match="MASKLOOP_MAX_IMAGE_MB"):
        read_local(folder, "cat.png", 10)
    with pytest.raises(ImageError, match="is '/'"):
        read_local(Path("/"), "etc/passwd", 1_000_000)
    assert read_local(folder, "cat.png", 1_000_000) == PNG
