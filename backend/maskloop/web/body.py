"""A request's body, read once."""

from __future__ import annotations

from typing import Any

from flask import Request

from maskloop.web.errors import ClientError


def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises ClientError when it is anything else.

    It has to say that it is JSON: a page of a stranger, open in the browser of whoever runs MaskLoop without a
    password, may send other kinds of text to 127.0.0.1 unasked, but no JSON.
    """
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise ClientError("The body must be a JSON object (Content-Type: application/json).")
    return body
