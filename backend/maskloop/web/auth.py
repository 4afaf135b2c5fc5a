"""Who may ask what.

Label Studio sends Basic auth on every call except the annotation webhooks, which carry
only headers somebody configured there. A webhook without any proof is therefore let in as
a hint: it counts only once the annotation was read again with our own token. Where neither a
password nor a secret is set, only this machine gets here, and is believed.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from enum import Enum
from ipaddress import ip_address
from urllib.parse import urlsplit

from flask import Request, Response, jsonify

from maskloop.settings import Settings

SECRET_HEADER = "X-MaskLoop-Secret"

OPEN_ROUTES = frozenset({"/live", "/ready"})
"""Answered without credentials: orchestrators probe without any. On /health Label Studio tries its password."""


ELSEWHERE = (
    "This MaskLoop has no password and is for this machine only; it was asked for as {}. "
    "Use http://localhost, or set BASIC_AUTH_USER and BASIC_AUTH_PASS."
)


class Trust(Enum):
    """How far a webhook's content is believed."""

    PROVEN = "proven"
    HINT = "hint"
    REFUSED = "refused"


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def has_valid_credentials(request: Request, settings: Settings) -> bool:
    """Whether the request's Basic auth is the configured one; compared in constant time."""
    auth = request.authorization
    if auth is None or auth.type != "basic":
        return False
    user = _same(auth.username or "", settings.basic_auth_user)
    password = _same(auth.password or "", settings.basic_auth_pass.get_secret_value())
    return user and password


def check(request: Request, settings: Settings) -> Response | None:
    """None when the request may go on, else the 401 or 403 to answer."""
    if not settings.has_credentials and _is_public(request.host):
        response = jsonify({"error": ELSEWHERE.format(request.host)})
        response.status_code = 403
        return response
    if not settings.has_credentials or request.path in OPEN_ROUTES or request.path == "/webhook":
        return None
    if has_valid_credentials(request, settings):
        return None
    return unauthorized("This MaskLoop asks for Basic auth: enter user and password in the model's connection form.")


def _is_public(host: str) -> bool:
    """Whether a Host header names a domain that anybody could have registered, and pointed at this machine.

    A page of such a domain, open in a browser here, would read what MaskLoop answers ("DNS rebinding").
    """
    name = urlsplit(f"//{host}").hostname or ""
    with suppress(ValueError):
        ip_address(name)
        return False
    return "." in name and not name.endswith((".localhost", ".local", ".internal"))


def unauthorized(message: str) -> Response:
    response = jsonify({"error": message})
    response.status_code = 401
    response.headers["WWW-Authenticate"] = 'Basic realm="MaskLoop"'
    return response


def webhook_trust(request: Request, settings: Settings) -> Trust:
    """How far this webhook can be believed."""
    secret = settings.webhook_secret.get_secret_value()
    if not secret and not settings.has_credentials:
        return Trust.PROVEN
    given = request.headers.get(SECRET_HEADER, "")
    if secret and _same(given, secret):
        return Trust.PROVEN
    if settings.has_credentials and has_valid_credentials(request, settings):
        return Trust.PROVEN
    if given or request.authorization is not None:
        return Trust.REFUSED
    can_read_again = bool(settings.label_studio_url and settings.label_studio_api_key.get_secret_value())
    return Trust.HINT if can_read_again else Trust.REFUSED
