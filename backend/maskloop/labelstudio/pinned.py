"""One HTTP request to addresses that were checked, bounded in time and size whatever the server does.

The name is not resolved again: who answers for it later may answer differently.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult

from maskloop.labelstudio.urls import ImageError, port_of, shown

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection
    from urllib3.response import HTTPResponse

CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
PIECE = 1 << 16


@dataclass(frozen=True)
class Asked:
    """What is sent."""

    method: str
    headers: Mapping[str, str]
    body: bytes | None = None


@dataclass(frozen=True)
class Answer:
    """What comes back; ``pieces`` of the body are read as they are taken."""

    status: int
    fields: Mapping[str, str]
    pieces: Iterator[bytes]


@contextmanager
def ask(parts: SplitResult, addresses: Sequence[str], asked: Asked, deadline: float, limit: int) -> Iterator[Answer]:
    """The answer of the first address that takes a connection, for as long as the context lasts.

    Args:
        addresses: of the host of the URL, checked by the caller.
        deadline: in time.monotonic(), for all of it.
        limit: bytes of the body.

    Raises:
        ImageError: the body is too large, or ended early.
        OSError, ValueError, urllib3.exceptions.HTTPError: anything else that went wrong.
    """
    tried: list[HTTPConnection] = []
    sockets: list[Any] = []
    # A server that sends a byte a second never trips a read timeout: the socket is shut at the deadline.
    watchdog = threading.Timer(
        max(0.1, deadline - time.monotonic()), lambda: _shut([*sockets, *(one.sock for one in tried)])
    )
    watchdog.daemon = True
    watchdog.start()
    try:
        connection = _connected(parts, addresses, deadline, tried)
        # The connection forgets its socket as soon as the answer will be the last on it.
        sockets.append(connection.sock)
        # What urllib3 puts on the socket before it reads.
        connection.timeout = min(READ_SECONDS, max(0.1, deadline - time.monotonic()))
        connection.request(
            asked.method,
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            body=asked.body,
            headers={"Host": parts.netloc, "Accept": "*/*", "User-Agent": "MaskLoop", **asked.headers},
            preload_content=False,
            decode_content=False,
        )
        with connection.getresponse() as answer:
            yield Answer(answer.status, answer.headers, _pieces(parts, answer, deadline, limit))
    finally:
        watchdog.cancel()
        for connection in tried:
            connection.close()


def _connected(
    parts: SplitResult, addresses: Sequence[str], deadline: float, tried: list[HTTPConnection]
) -> HTTPConnection:
    """Connected to the first address that can be: localhost has two on most machines, its server often one."""
    import urllib3.exceptions
    from urllib3.connection import HTTPConnection, HTTPSConnection

    host, port = parts.hostname or "", port_of(parts)
    for number, address in enumerate(addresses):
        timeout = min(CONNECT_SECONDS, max(0.1, deadline - time.monotonic()))
        connection = (
            HTTPSConnection(
                address, port, timeout=timeout, server_hostname=host, assert_hostname=host, ca_certs=_certificates()
            )
            if parts.scheme == "https"
            else HTTPConnection(address, port, timeout=timeout)
        )
        tried.append(connection)
        try:
            connection.connect()
            return connection
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
            if number == len(addresses) - 1 or time.monotonic() >= deadline:
                raise
    raise ValueError(f"{host} has no address")


def _pieces(parts: SplitResult, answer: HTTPResponse, deadline: float, limit: int) -> Iterator[bytes]:
    announced = answer.headers.get("Content-Length", "")
    total = int(announced) if announced.isdigit() else 0
    if total <= limit:
        total = 0
        while piece := answer.read1(PIECE):
            total += len(piece)
            if total > limit:
                break
            if time.monotonic() >= deadline:
                raise TimeoutError
            yield piece
        # A body that the watchdog cut off looks like one that has ended.
        if time.monotonic() >= deadline:
            raise TimeoutError
    if total > limit:
        raise ImageError(f"{shown(parts.geturl())} is larger than {limit / 1e6:g} MB (MASKLOOP_MAX_IMAGE_MB).")
    if announced.isdigit() and total < int(announced):
        raise ImageError(f"{shown(parts.geturl())} ended after {total} of {announced} bytes. Try again.")


def _shut(sockets: Sequence[socket.socket | None]) -> None:
    """Wake up whoever waits on them."""
    for sock in sockets:
        with suppress(OSError):
            if sock is not None:
                sock.shutdown(socket.SHUT_RDWR)


def _certificates() -> str:
    """Whom to trust: the usual authorities, or those of the company that runs Label Studio."""
    import certifi

    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE") or certifi.where()
