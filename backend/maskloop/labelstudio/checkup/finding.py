"""What a checkup finds, and what it needs to know."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from maskloop.labelstudio.records import LabelStudioError

PRIVATE = (
    "Start Label Studio with ML_BLOCK_LOCAL_IP=false (clicks and predictions) and SSRF_PROTECTION_ENABLED=false "
    "(webhooks, so that it learns); without them it calls no private address, and every container has one."
)


class Verdict(Enum):
    GOOD = "good"
    FIXED = "fixed"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    verdict: Verdict
    about: str
    says: str
    remedy: str = ""


@dataclass(frozen=True)
class Door:
    """How MaskLoop is reached, and what it asks of those who knock."""

    url: str
    user: str = ""
    password: str = ""
    webhook_secret: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers a webhook must carry to be believed; Label Studio sends none by itself."""
        if self.webhook_secret:
            return {"X-MaskLoop-Secret": self.webhook_secret}
        if self.user:
            pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {}

    @property
    def auth(self) -> tuple[str, str] | None:
        return (self.user, self.password) if self.user else None


def good(about: str, says: str) -> Finding:
    return Finding(Verdict.GOOD, about, says)


def problem(about: str, says: str, remedy: str = "") -> Finding:
    return Finding(Verdict.PROBLEM, about, says, remedy)


See = Callable[[str, int], tuple[int, int]]
"""Fetch an image (its URL, its task) and return its width and height; raises ImageError."""


def same_place(one: str, other: str) -> bool:
    """Whether two URLs mean the same server (localhost is 127.0.0.1)."""
    a, b = urlsplit(one.rstrip("/")), urlsplit(other.rstrip("/"))
    loopback = {"localhost", "127.0.0.1", "::1"}
    same_host = a.hostname == b.hostname or {a.hostname, b.hostname} <= loopback
    return same_host and (a.scheme, a.port, a.path) == (b.scheme, b.port, b.path)


def is_private_refusal(error: LabelStudioError) -> bool:
    """Whether Label Studio refused because of a private address."""
    return "reserved network address" in str(error)
