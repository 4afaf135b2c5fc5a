"""URLs that come from tasks: read in one way only, and shown without their secrets."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, quote, unquote, urlsplit

PORTS = {"http": 80, "https": 443}
FILES = re.compile(r"/(data|storage-data|static|media|(tasks|projects)/\d+/(presign|resolve))/")


class ImageError(Exception):
    """A task's image could not be had; the message says why and which setting to change."""


class ImageAway(ImageError):
    """Whoever has the image did not answer, or is in trouble itself: it may work later."""


def split(url: str) -> SplitResult:
    """The parts of an http(s) URL that means the same to everybody who reads it. Raises ImageError."""
    if re.search(r"[\x00-\x1f\x7f\\]", url):
        raise ImageError(f"{shown(url)}: an image URL holds no control characters or backslashes.")
    try:
        # As a browser does: file names in other scripts, and blanks.
        parts = urlsplit(quote(url.strip(), safe="%/:=&?~#+!$,;'@()*[]"))
        port = parts.port
    except ValueError as error:
        raise ImageError(f"{shown(url)} is not a URL: {error}.") from None
    if parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise ImageError(f"{shown(url)}: only http and https URLs are fetched.")
    if parts.username is not None or parts.password is not None:
        raise ImageError(f"{shown(url)}: a URL with a user name or password is not fetched.")
    if "%" in parts.netloc:
        raise ImageError(f"{shown(url)}: write the host name in ASCII.")
    return parts


def port_of(parts: SplitResult) -> int:
    return parts.port or PORTS[parts.scheme]


def origin(parts: SplitResult) -> tuple[str, str | None, int]:
    """Scheme, host and port: what a credential belongs to."""
    return parts.scheme, parts.hostname, port_of(parts)


def shown(url: str) -> str:
    """A URL for a message: without its query, which may hold a signature, and not endless."""
    bare = url.split("?", 1)[0].split("#", 1)[0]
    bare = re.sub(r"//[^/@]*@", "//", bare)
    return repr(bare if len(bare) <= 120 else bare[:117] + "...")


def is_file(path: str) -> bool:
    """Whether a path of Label Studio is one of its files.

    Its API is not for tasks to call with the operator's token, not even by a path that a server
    on the way might straighten.
    """
    plain = unquote(path)
    return FILES.match(plain) is not None and not {".", ".."} & set(plain.split("/"))
