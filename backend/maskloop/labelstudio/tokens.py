"""Label Studio's tokens as request headers: legacy ones as they are, personal ones exchanged first."""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from collections.abc import Callable
from typing import Literal

EARLY = 30.0
"""An access token lives five minutes; it is replaced this many seconds before that."""

UNKNOWN_LIFE = 240.0

TokenKind = Literal["legacy", "personal", "access"]


def token_kind(api_key: str) -> TokenKind:
    """A legacy token is 40 hexadecimal digits; a JWT says itself what it is.

    A *personal* access token (JWT of type ``refresh``) is exchanged for *access* tokens that
    live five minutes; handing out one of those as a setting is a mistake worth naming.
    """
    parts = api_key.strip().split(".")
    if len(parts) != 3:
        return "legacy"
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return "legacy"
    return "access" if isinstance(claims, dict) and claims.get("token_type") == "access" else "personal"


class TokenError(Exception):
    """Label Studio does not take the token; the message says what to do and never contains it."""


class Token:
    """The credential for one Label Studio. Safe to share between threads.

    Args:
        key: a legacy token (40 hexadecimal digits) or a personal access token (a JWT: two dots).
        exchange: posts a JSON body to ``/api/token/refresh/`` of Label Studio, returns status and body.
    """

    def __init__(self, key: str, exchange: Callable[[bytes], tuple[int, bytes]]) -> None:
        self._key = key.strip()
        self._exchange = exchange
        self._access = ""
        self._until = 0.0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Token({'personal' if self.personal else 'legacy' if self._key else 'none'})"

    @property
    def personal(self) -> bool:
        return self._key.count(".") == 2

    def headers(self, refused: str | None = None) -> dict[str, str]:
        """The header to send, none without a token.

        ``refused`` is the header value that Label Studio just answered with 401: it is not sent
        again if there is a way to get another. Raises TokenError if there is none.
        """
        if not self._key:
            return {}
        if not self.personal:
            return {"Authorization": f"Token {self._key}"}
        with self._lock:
            if time.monotonic() >= self._until or f"Bearer {self._access}" == refused:
                self._refresh()
            return {"Authorization": f"Bearer {self._access}"}

    def _refresh(self) -> None:
        status, body = self._exchange(json.dumps({"refresh": self._key}).encode())
        try:
            access = json.loads(body)["access"] if status == 200 else ""
        except (ValueError, KeyError, TypeError):
            access = ""
        if not isinstance(access, str) or not access.isascii() or access.count(".") != 2:
            raise TokenError(
                f"Label Studio did not take the personal access token (HTTP {status} from /api/token/refresh/). "
                "Create a new one (Account & Settings > Personal Access Token) and set LABEL_STUDIO_API_KEY"
            )
        self._access = access
        self._until = time.monotonic() + _life(access) - EARLY


def _life(jwt: str) -> float:
    """Seconds that a JWT is still good for, as far as it says so."""
    part = jwt.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        # Both times are Label Studio's, so a clock that is wrong here does no harm.
        return float(claims["exp"]) - float(claims["iat"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        return UNKNOWN_LIFE
