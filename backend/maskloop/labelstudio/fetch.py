"""Bytes from a URL that anybody who can import a task chose: nothing but what the operator allowed.

A request goes to Label Studio itself or to an allowed host; every redirect is checked again. What is
connected to, and how time and size are bounded, is :mod:`maskloop.labelstudio.pinned`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import SplitResult, urljoin

from maskloop.labelstudio.addresses import AddressError, addresses_of
from maskloop.labelstudio.pinned import Answer, Asked, ask
from maskloop.labelstudio.tokens import Token, TokenError
from maskloop.labelstudio.urls import PORTS, ImageAway, ImageError, is_file, origin, port_of, shown, split

HOPS = 5
REDIRECTS = (301, 302, 303, 307, 308)
SILENT_SECONDS = 15.0
"""A host that took no connection is not tried again for this long: each try costs seconds."""
MOST_SILENT = 1000
"""Hosts that are remembered as silent at most; then all are tried again."""


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
        self._silent: dict[tuple[str, int], float] = {}

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
            with self._response(parts, Asked("GET", headers), deadline, public) as answer:
                if answer.status in REDIRECTS and answer.fields.get("Location"):
                    return answer.fields["Location"]
                if answer.status == 200:
                    return b"".join(answer.pieces)
                if answer.status != 401 or attempt == 2 or not headers or not self._token.personal:
                    kind = ImageAway if answer.status == 429 or answer.status >= 500 else ImageError
                    raise kind(self._refused(parts, answer.status, bool(headers)))
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
        with self._response(parts, Asked("POST", {"Content-Type": "application/json"}, body), deadline) as answer:
            return answer.status, b"".join(answer.pieces)

    @contextmanager
    def _response(self, parts: SplitResult, asked: Asked, deadline: float, public: bool = False) -> Iterator[Answer]:
        """The answer to one request to a checked address; with ``public`` to any address of the open Internet."""
        import urllib3.exceptions

        host, port, name = parts.hostname or "", port_of(parts), shown(parts.geturl())
        try:
            known, private = public or self._allowed(parts), self._may_be_private(parts)
            addresses = addresses_of(host, port, private=private, known=known)
        except AddressError as error:
            raise ImageError(f"{name}: {error}") from None
        self._known_silent(host, port, name)
        try:
            with ask(parts, addresses, asked, deadline, self.options.max_bytes) as answer:
                yield answer
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # A refused connection is one of them to urllib3, but costs nothing.
            refused = isinstance(error, urllib3.exceptions.NewConnectionError)
            if isinstance(error, urllib3.exceptions.ConnectTimeoutError) and not refused:
                if len(self._silent) >= MOST_SILENT:
                    self._silent.clear()
                self._silent[host, port] = time.monotonic() + SILENT_SECONDS
            if time.monotonic() >= deadline:
                raise ImageAway(
                    f"{name} took longer than {self.options.timeout_seconds:g} s (MASKLOOP_FETCH_TIMEOUT_SECONDS)."
                ) from None
            raise ImageAway(f"{name} could not be fetched: {self._why(parts, error)}") from None

    def _known_silent(self, host: str, port: int, name: str) -> None:
        """Raise at once for a host that took no connection a moment ago."""
        left = self._silent.get((host, port), 0.0) - time.monotonic()
        if left > 0:
            raise ImageAway(f"{name}: {host} took no connection a moment ago; it is asked again in {left:.0f} s.")
        self._silent.pop((host, port), None)

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
