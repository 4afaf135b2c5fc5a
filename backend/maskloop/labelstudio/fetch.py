"""Bytes from a URL that anybody who can import a task chose: nothing but what the operator allowed.

A request goes to Label Studio itself or to an allowed host; its address is resolved once, checked,
and that very address is connected to; every redirect is checked again; time and size are bounded.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urljoin

from maskloop.labelstudio.addresses import AddressError, address_of
from maskloop.labelstudio.tokens import Token, TokenError
from maskloop.labelstudio.urls import PORTS, ImageError, is_file, origin, port_of, shown, split

if TYPE_CHECKING:
    from urllib3.response import HTTPResponse

HOPS = 5
CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
PIECE = 1 << 16
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class FetchOptions:
    """Where images may come from and how large they may be.

    ``label_studio_url`` is trusted as the operator set it. ``allowed_hosts`` are ``host`` (usual ports),
    ``host:port``, ``*.domain`` or ``*``; a host named in full may have a private address.
    ``local_files_root`` None means that no local file is ever read.
    """

    label_studio_url: str = ""
    api_key: str = field(default="", repr=False)
    allowed_hosts: frozenset[str] = frozenset()
    local_files_root: Path | None = None
    max_bytes: int = 64_000_000
    max_pixels: int = 100_000_000
    timeout_seconds: float = 20.0
    cache_dir: Path | None = None
    cache_bytes: int = 2_000_000_000
    ram_bytes: int = 128_000_000


class Fetcher:
    """Downloads under the rules of its options. Safe to share between threads."""

    def __init__(self, options: FetchOptions) -> None:
        self.options = options
        try:
            self.base = split(options.label_studio_url.rstrip("/")) if options.label_studio_url else None
        except ImageError as error:
            raise ImageError(f"LABEL_STUDIO_URL: {error} Write it like http://localhost:8080.") from None
        self._token = Token(options.api_key, self._exchange)

    def get(self, url: str) -> bytes:
        """The body behind an http(s) URL. Raises ImageError."""
        deadline = time.monotonic() + self.options.timeout_seconds
        trusted = False
        for _ in range(HOPS + 1):
            parts = split(url)
            answer = self._ask(parts, deadline, public=trusted)
            if isinstance(answer, bytes):
                return answer
            # Label Studio sends storage files to a signed URL of the storage. It may name any public address.
            trusted = self._own(parts)
            url = urljoin(url, answer)
        raise ImageError(f"{shown(url)} redirects more than {HOPS} times.")

    def _ask(self, parts: SplitResult, deadline: float, public: bool) -> bytes | str:
        """The body, or where it redirects to. A token that was refused is renewed once."""
        headers = self._headers(parts, None)
        for attempt in (1, 2):
            with self._response(parts, "GET", headers, deadline, public) as (status, fields, body):
                if status in REDIRECTS and fields.get("Location"):
                    return fields["Location"]
                if status == 200:
                    return b"".join(body)
                if status != 401 or attempt == 2 or not headers or not self._token.personal:
                    raise ImageError(self._refused(parts, status, bool(headers)))
            headers = self._headers(parts, headers["Authorization"])
        raise AssertionError("unreachable")

    def _own(self, parts: SplitResult) -> bool:
        return self.base is not None and origin(parts) == origin(self.base)

    def _headers(self, parts: SplitResult, refused: str | None) -> dict[str, str]:
        """The token, for files of Label Studio itself and nobody else."""
        if self.base is None or not self._own(parts):
            return {}
        if not is_file(parts.path.removeprefix(self.base.path)):
            return {}
        try:
            return self._token.headers(refused)
        except TokenError as error:
            raise ImageError(f"{error}.") from None

    def _exchange(self, body: bytes) -> tuple[int, bytes]:
        assert self.base is not None
        parts = self.base._replace(path=self.base.path + "/api/token/refresh/")
        deadline = time.monotonic() + self.options.timeout_seconds
        with self._response(parts, "POST", {"Content-Type": "application/json"}, deadline, False, body) as answer:
            status, _, pieces = answer
            return status, b"".join(pieces)

    @contextmanager
    def _response(
        self,
        parts: SplitResult,
        method: str,
        headers: Mapping[str, str],
        deadline: float,
        public: bool,
        body: bytes | None = None,
    ) -> Iterator[tuple[int, Mapping[str, str], Iterator[bytes]]]:
        """Status, header fields and body of one request to a checked address."""
        import urllib3.exceptions
        from urllib3.connection import HTTPConnection, HTTPSConnection

        host, port = parts.hostname or "", port_of(parts)
        try:
            ip = address_of(host, port, private=self._may_be_private(parts), known=public or self._allowed(parts))
        except AddressError as error:
            raise ImageError(f"{shown(parts.geturl())}: {error}") from None
        left = deadline - time.monotonic()
        connect = min(CONNECT_SECONDS, max(0.1, left))
        connection = (
            HTTPSConnection(
                ip, port, timeout=connect, server_hostname=host, assert_hostname=host, ca_certs=_certificates()
            )
            if parts.scheme == "https"
            else HTTPConnection(ip, port, timeout=connect)
        )
        # A server that sends a byte a second never trips a read timeout: the socket is shut at the deadline.
        sockets: list[Any] = []
        watchdog = threading.Timer(max(0.1, left), lambda: _shut(sockets or [connection.sock]))
        watchdog.daemon = True
        watchdog.start()
        try:
            connection.connect()
            # The connection forgets its socket as soon as the answer will be the last on it.
            sockets.append(connection.sock)
            # What urllib3 puts on the socket before it reads.
            connection.timeout = min(READ_SECONDS, max(0.1, deadline - time.monotonic()))
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(
                method,
                target,
                body=body,
                headers={"Host": parts.netloc, "Accept": "*/*", "User-Agent": "MaskLoop", **headers},
                preload_content=False,
                decode_content=False,
            )
            with connection.getresponse() as answer:
                yield answer.status, answer.headers, self._pieces(parts, answer, deadline)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            if time.monotonic() >= deadline:
                raise ImageError(
                    f"{shown(parts.geturl())} took longer than {self.options.timeout_seconds:g} s "
                    "(MASKLOOP_FETCH_TIMEOUT_SECONDS)."
                ) from None
            raise ImageError(f"{shown(parts.geturl())} could not be fetched: {self._why(parts, error)}") from None
        finally:
            watchdog.cancel()
            connection.close()

    def _pieces(self, parts: SplitResult, answer: HTTPResponse, deadline: float) -> Iterator[bytes]:
        limit, announced = self.options.max_bytes, answer.headers.get("Content-Length", "")
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

    def _allowed(self, parts: SplitResult) -> bool:
        host = parts.hostname or ""
        domains = {f"*{host[i:]}" for i, letter in enumerate(host) if letter == "."}
        return self._may_be_private(parts) or (
            port_of(parts) in PORTS.values() and bool(self.options.allowed_hosts & (domains | {"*"}))
        )

    def _may_be_private(self, parts: SplitResult) -> bool:
        """Named by the operator, not by a task."""
        host, port = parts.hostname or "", port_of(parts)
        named = {f"{host}:{port}"} | ({host} if port in PORTS.values() else set())
        return self._own(parts) or bool(named & self.options.allowed_hosts)

    def _why(self, parts: SplitResult, error: Exception) -> str:
        text = f"{type(error).__name__}: {str(error)[:200]}."
        if self._own(parts):
            return f"{text} Is LABEL_STUDIO_URL right as seen from this machine or container?"
        return text

    def _refused(self, parts: SplitResult, status: int, with_token: bool) -> str:
        start = f"{shown(parts.geturl())} answered HTTP {status}."
        if not self._own(parts) or status not in (401, 403, 404):
            return start
        if status == 404:
            return f"{start} Label Studio does not have that file, or the token's owner may not see its project."
        if not self.options.api_key:
            return f"{start} Set LABEL_STUDIO_API_KEY to a personal access token of Label Studio."
        if not with_token:
            return f"{start} It is not a file of Label Studio, so no token was sent."
        if self._token.personal:
            return f"{start} The owner of LABEL_STUDIO_API_KEY may not see this file."
        return (
            f"{start} Legacy tokens are off in Label Studio unless an organization switches them on: "
            "set LABEL_STUDIO_API_KEY to a personal access token (Account & Settings)."
        )

    @cached_property
    def label_studio(self) -> str:
        """The URL of Label Studio without a slash at the end. Raises ImageError if it is not set."""
        if self.base is None:
            raise ImageError(
                "The task's image is in Label Studio, and LABEL_STUDIO_URL is not set: say where Label Studio is, "
                "e.g. http://localhost:8080, and set LABEL_STUDIO_API_KEY."
            )
        return self.base.geturl()


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
