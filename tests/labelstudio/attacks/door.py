"""The door that every attack knocks at: an image store with a token to lose."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from maskloop.labelstudio.images import FetchOptions, ImageError, ImageStore

from ..server import Server, encoded, pixels

PNG = encoded(pixels())
UPLOAD = "/data/upload/1/cat.png"
KEY = "5ec2e7" * 6 + "abcd"


def store(server: Server | None = None, *allowed: str, **options: Any) -> ImageStore:
    given: dict[str, Any] = {"label_studio_url": server.url if server else "", "timeout_seconds": 5.0}
    return ImageStore(FetchOptions(**{**given, "allowed_hosts": frozenset(allowed), "api_key": KEY, **options}))


def refused(images: ImageStore, url: str, task_id: int | None = 1) -> str:
    with pytest.raises(ImageError) as caught:
        images.load(url, task_id)
    assert KEY not in str(caught.value)
    return str(caught.value)


def inline(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
