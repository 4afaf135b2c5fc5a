"""What a server may try to learn, or to keep busy. Each test is an attack that has to fail."""

from __future__ import annotations

import logging
import shutil
import ssl
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import HTTPServer
from pathlib import Path

import pytest

from ..server import Handler, Server, redirect, reply, serving
from .door import KEY, PNG, UPLOAD, refused, store


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
