"""An image as Label Studio keeps it, and a store that fetches it there."""

from __future__ import annotations

from maskloop.labelstudio.images import FetchOptions, ImageStore

from .server import Server, encoded, pixels

PIXELS = pixels()
PNG = encoded(PIXELS)
UPLOAD = "/data/upload/1/cat.png"


def store(server: Server | None = None, **options: object) -> ImageStore:
    given = {"label_studio_url": server.url} if server else {}
    return ImageStore(FetchOptions(**{**given, **options}))  # type: ignore[arg-type]
