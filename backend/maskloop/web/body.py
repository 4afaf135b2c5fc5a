"""A request's body, read once."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from flask import Request

from maskloop.web.errors import ClientError

ODD = re.compile(rb"[\\eE](?:u[dD][89a-fA-F]|\+?\d{3})")
"""Where a body may hold what is JSON, but neither text that can be written anywhere nor a finite number. Sought
by its first letter: a body is mostly digits, and an annotator waits."""


def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object: half a character in a text is replaced, what is no finite number is null.

    It has to say that it is JSON: a page of a stranger, open in the browser of whoever runs MaskLoop without a
    password, may send other kinds of text to 127.0.0.1 unasked, but no JSON.

    Raises ClientError when it is anything else.
    """
    body: object = None
    if request.is_json:
        data = request.get_data()
        try:
            body = json.loads(data, parse_constant=lambda _: None)
            if ODD.search(data):
                body = _plain(body)
        except (ValueError, RecursionError):  # no JSON, or one that is nested a thousand deep
            body = None
    if not isinstance(body, dict):
        raise ClientError("The body must be a JSON object (Content-Type: application/json).")
    return body


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {_plain(key): _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case str():
            return value.encode(errors="replace").decode()
        case float():
            return value if math.isfinite(value) else None
    return value
