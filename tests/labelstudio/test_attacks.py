"""Everything a task, a server or a config may try. Each test is an attack that has to fail."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import os
import shutil
import socket
import ssl
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from maskloop.labelstudio.addresses import is_public
from maskloop.labelstudio.controls import ConfigError, LabelConfig
from maskloop.labelstudio.files import read_local
from maskloop.labelstudio.images import FetchOptions, ImageError, ImageStore
from maskloop.labelstudio.requests import Limits, parse_predict

from .made import batch, body, brush, draft, mask, point, task
from .server import Handler, Server, encoded, pixels, redirect, reply, serving

PNG = encoded(pixels())
UPLOAD = "/data/upload/1/cat.png"
KEY = "5ec2e7" * 6 + "abcd"


@pytest.fixture
def studio() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def victim() -> Iterator[Server]:
    """A service on this machine that must never be asked."""
    with serving() as server:
        server.routes["/secret.png"] = reply(PNG)
        yield server
        assert server.seen == []


def store(server: Server | None = None, *allowed: str, **options: Any) -> ImageStore:
    given: dict[str, Any] = {"label_studio_url": server.url if server else "", "timeout_seconds": 5.0}
    return ImageStore(FetchOptions(**{**given, "allowed_hosts": frozenset(allowed), "api_key": KEY, **options}))


def refused(images: ImageStore, url: str, task_id: int | None = 1) -> str:
    with pytest.raises(ImageError) as caught:
        images.load(url, task_id)
    assert KEY not in str(caught.value)
    return str(caught.value)


# Where a URL leads


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1/a.png",
        "http://localhost/a.png",
        "http://[::1]/a.png",
        "http://[::ffff:127.0.0.1]/a.png",
        "http://0.0.0.0/a.png",
        "http://0x7f.1/a.png",
        "http://2130706433/a.png",
        "http://127.1/a.png",
        "http://10.0.0.1/a.png",
        "http://192.168.1.1/a.png",
        "http://100.64.0.1/a.png",
        "http://[fe80::1]/a.png",
        "http://[fd00::1]/a.png",
        "http://[64:ff9b::7f00:1]/a.png",
    ],
)
def test_private_addresses_even_where_any_host_is_allowed(url: str) -> None:
    assert "not public" in refused(store(None, "*"), url)
    assert "MASKLOOP_IMAGE_HOSTS" in refused(store(None), url)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::a00:1", False),
        ("ff02::1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) == public


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:{port}/secret.png",
        "http://localhost:{port}/secret.png",
        "//127.0.0.1:{port}/secret.png",
        "http://[::1]:{port}/secret.png",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "ftp://127.0.0.1:{port}/secret.png",
    ],
)
@pytest.mark.parametrize("origin", ["label studio", "allowed host"])
def test_redirects_are_checked_like_first_requests(studio: Server, victim: Server, target: str, origin: str) -> None:
    location = target.format(port=victim.port)
    studio.routes[UPLOAD] = redirect(location)
    if origin == "label studio":
        refused(store(studio), UPLOAD)
    else:
        refused(store(None, f"127.0.0.1:{studio.port}"), f"{studio.url}{UPLOAD}")
    assert studio.paths == [UPLOAD]


def test_another_port_of_label_studios_host(studio: Server, victim: Server) -> None:
    assert "MASKLOOP_IMAGE_HOSTS" in refused(store(studio), f"{victim.url}/secret.png")


def test_redirects_without_end(studio: Server) -> None:
    studio.routes[UPLOAD] = redirect(UPLOAD)
    assert "redirects more than" in refused(store(studio), UPLOAD)
    assert len(studio.paths) < 10


def test_a_name_is_resolved_once_and_that_address_is_asked(studio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the second answer for the same name would be another address."""
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", studio.port))]]
    real = socket.getaddrinfo

    def lookup(host: Any, *args: Any, **named: Any) -> Any:
        if host == "rebind.example":
            return answers.pop(0)
        return real(host, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    studio.routes["/a.png"] = reply(PNG)
    store(None, f"rebind.example:{studio.port}").load(f"http://rebind.example:{studio.port}/a.png")
    assert answers == []
    assert studio.seen[0][3] == f"rebind.example:{studio.port}"


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("93.184.216.34", "10.0.0.7")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    assert "10.0.0.7" in refused(store(None, "*.example"), "http://a.example/a.png")


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("images.example", "http://images.example:6379/a.png"),
        ("images.example", "http://evil-images.example/a.png"),
        ("images.example", "http://images.example.evil/a.png"),
        ("*.example", "http://example/a.png"),
        ("*.example", "http://a.example:8080/a.png"),
        ("images.example:8080", "http://images.example/a.png"),
        ("*", "http://a.example:22/a.png"),
    ],
)
def test_the_allow_list_means_what_it_says(allowed: str, url: str) -> None:
    assert "images are not fetched from" in refused(store(None, allowed), url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}@evil.example/a.png",
        "http://user:pass@127.0.0.1:{port}/secret.png",
        "http://127.0.0.1:{port}\\@evil.example/secret.png",
        "http://127.0.0.1:{port}/a.png\r\nX-Injected: 1",
        "http://127.0.0.1:{port}/a\0.png",
        "http:///secret.png",
        "http://127.0.0.1:notaport/a.png",
        "http://127.0.0.1:0/a.png",
        "http://[::1/a.png",
        "http://ехаmple/a.png",
        "javascript:alert(1)",
        "",
        " ",
    ],
)
def test_urls_that_mean_two_things(studio: Server, url: str) -> None:
    refused(store(studio), url.format(port=studio.port))
    assert not any("secret" in path or "Injected" in path for path in studio.paths)


@pytest.mark.parametrize(
    "path",
    [
        "/api/users/",
        "/api/token/",
        "/user/logout",
        "/data/../api/users/",
        "/data/%2e%2e/api/users/",
        "/data/upload/1/../../../api/users/",
        "/tasks/1/../../api/users/",
        "//evil.example/a.png",
        "/projects/1/settings",
    ],
)
def test_a_task_cannot_have_the_api_called(studio: Server, path: str) -> None:
    """A GET with the operator's token is a door, whatever becomes of the answer."""
    studio.routes[path] = reply(PNG)
    refused(store(studio), path)
    assert studio.seen == []
    with contextlib.suppress(ImageError):
        store(studio).load(studio.url + path.replace("//", "/"))
    assert all(authorization is None for _, _, authorization, _ in studio.seen)


def test_proxies_of_the_environment_are_not_used(
    studio: Server, victim: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, victim.url)
    studio.routes[UPLOAD] = reply(PNG)
    store(studio).load(UPLOAD)


# The token


def test_the_token_stays_with_label_studio(studio: Server) -> None:
    with serving() as other:
        other.routes["/a.png"] = reply(PNG)
        studio.routes[UPLOAD] = redirect(f"{other.url}/a.png")
        store(studio, f"127.0.0.1:{other.port}").load(UPLOAD)
        assert studio.seen[0][2] == f"Token {KEY}"
        assert other.seen[0][2] is None


def test_the_token_is_never_logged(studio: Server, caplog: pytest.LogCaptureFixture) -> None:
    studio.routes[UPLOAD] = reply(b"", 500)
    with caplog.at_level(logging.DEBUG):
        refused(store(studio), UPLOAD)
    assert KEY not in caplog.text
    assert KEY not in repr(store(studio).options)


def test_the_signature_of_a_url_is_not_in_the_message(studio: Server) -> None:
    assert "s3cret" not in refused(store(studio), f"{studio.url}/data/upload/1/a.png?X-Amz-Signature=s3cret")


# Time and size


def dripping(head: bytes, drop: bytes) -> Callable[[Handler], None]:
    def answer(request: Handler) -> None:
        request.wfile.write(head)
        while True:
            request.wfile.write(drop)
            time.sleep(0.05)

    return answer


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.0 200 OK\r\nX-Slow: ", b"x"),
        (b"", b""),
    ],
    ids=["body", "announced body", "chunks", "headers", "nothing at all"],
)
def test_a_server_that_drips(studio: Server, head: bytes, drop: bytes) -> None:
    studio.routes[UPLOAD] = dripping(head, drop)
    assert "MASKLOOP_FETCH_TIMEOUT_SECONDS" in refused(store(studio, timeout_seconds=0.4), UPLOAD)


def endless(request: Handler) -> None:
    request.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
    while True:
        request.wfile.write(b"x" * 65536)


def test_a_body_without_end(studio: Server) -> None:
    studio.routes[UPLOAD] = endless
    assert "MASKLOOP_MAX_IMAGE_MB" in refused(store(studio, max_bytes=1_000_000), UPLOAD)


def test_a_body_that_is_announced_too_large_is_not_read(studio: Server) -> None:
    studio.routes[UPLOAD] = reply(b"", Content_Length="99999999")
    assert "MASKLOOP_MAX_IMAGE_MB" in refused(store(studio, max_bytes=1_000_000), UPLOAD)


def test_a_body_that_ends_early(studio: Server) -> None:
    studio.routes[UPLOAD] = reply(PNG, Content_Length=str(len(PNG) + 5))
    refused(store(studio), UPLOAD)


def test_a_compressed_bomb_is_not_unpacked(studio: Server) -> None:
    packed = zlib.compress(b"\0" * 50_000_000, 9)
    studio.routes[UPLOAD] = reply(packed, Content_Encoding="deflate")
    assert "no image" in refused(store(studio, max_bytes=1_000_000), UPLOAD)


# Images


def inline(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


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


# Files


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


# Labeling configs


BILLION_LAUGHS = (
    "<!DOCTYPE View [<!ENTITY a0 'ha'>"
    + "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 10))
    + "]><View>&a9;</View>"
)


@pytest.mark.parametrize(
    "xml",
    [
        BILLION_LAUGHS,
        '<!DOCTYPE View [<!ENTITY a SYSTEM "file:///etc/passwd">]><View>&a;</View>',
        '<!DOCTYPE View SYSTEM "{url}/evil.dtd"><View/>',
        '<!DOCTYPE View [<!ENTITY % a SYSTEM "{url}/evil.dtd"> %a;]><View/>',
        "<View>" * 100_000 + "</View>" * 100_000,
    ],
    ids=["billion laughs", "file", "remote DTD", "parameter entity", "too long"],
)
def test_configs_are_data(victim: Server, xml: str) -> None:
    with pytest.raises(ConfigError):
        LabelConfig.parse(xml.replace("{url}", victim.url))


def test_a_deeply_nested_config_is_no_crash() -> None:
    assert LabelConfig.parse("<View>" * 30_000 + "</View>" * 30_000).images == ()


# Requests


def test_an_rle_that_claims_four_gigabytes_is_not_decoded() -> None:
    from maskloop.labelstudio.interaction import GestureOptions, Nothing, interpret
    from maskloop.labelstudio.memory import LocalMemory

    bomb = brush("r1", mask(1, 1, 9, 9))
    bomb["value"]["rle"] = [255, 255, 255, 255, 57, 27, 255, 255, 255, 255]
    sent = body(point("n", 5, 5, False), drafts=[draft(bomb)])
    assert isinstance(interpret(parse_predict(sent), LocalMemory(), GestureOptions(correct_in_place=True)), Nothing)


def test_a_region_of_a_huge_image_has_no_shape() -> None:
    huge = {**brush("r1", mask(1, 1, 9, 9)), "original_width": 10**9, "original_height": 10**9}
    (only,) = parse_predict(batch(task(annotations=[{"id": 1, "result": [huge]}]))).tasks
    assert only.annotations[0].regions[0].shape is None


def test_a_hundred_thousand_prompts_are_refused() -> None:
    from maskloop.labelstudio.requests import BadRequest

    with pytest.raises(BadRequest):
        parse_predict(body(*[point("p", 1, 1)] * 100_000), Limits())


@pytest.mark.parametrize("odd", [None, 5, "x", [], {}, [None], [[]], [{"result": 5}], [{"result": [5, None, {}]}]])
@pytest.mark.parametrize("key", ["annotations", "drafts", "predictions", "data"])
def test_odd_tasks_are_read_without_an_exception(key: str, odd: Any) -> None:
    parse_predict(batch({**task(), key: odd}))
    parse_predict(body(point("p", 1, 1), **{key: odd}))


# TLS


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A server with a certificate for localhost that no authority knows."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    def wrap(httpd: HTTPServer) -> None:
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)

    with serving(wrap) as server:
        server.routes["/a.png"] = reply(PNG)
        yield server.port, cert


def test_an_unknown_certificate_is_refused(tls: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    port, cert = tls
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    assert "CERTIFICATE_VERIFY_FAILED" in refused(store(None, f"localhost:{port}"), f"https://localhost:{port}/a.png")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cert))
    assert store(None, f"localhost:{port}").load(f"https://localhost:{port}/a.png").pixels.shape == (20, 30, 3)
    # The certificate is for localhost, so the address alone will not do.
    refused(store(None, f"127.0.0.1:{port}"), f"https://127.0.0.1:{port}/a.png")


def test_random_bytes_are_no_image() -> None:
    for seed in range(20):
        noise = io.BytesIO(pixels(seed=seed).tobytes()).getvalue()
        refused(store(), inline(noise))
