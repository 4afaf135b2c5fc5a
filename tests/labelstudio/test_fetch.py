"""Tokens, and what goes wrong on the way to an image; attacks are in tests/labelstudio/attacks."""

from __future__ import annotations

import base64
import json
import time

import pytest

from maskloop.labelstudio.images import FetchOptions, ImageError, ImageStore

from .server import Handler, Server, reply, serving
from .studio import PNG, UPLOAD, store


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
