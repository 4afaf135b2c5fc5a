"""A request's body, read once."""

from __future__ import annotations

from typing import Any

from flask import Request

from maskloop.web.errors import ClientError


def json_object(request: Request) -> dict[str, Any]:
    """The body as a JSON object. Raises ClientError when it is anything else."""
    body = request.get_json(force=True, silent=True)
    if not isinstance(body, dict):
        raise ClientError("The body must be a JSON object.")
    return body
