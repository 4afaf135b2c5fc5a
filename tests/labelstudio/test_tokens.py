import base64
import json

import pytest

from maskloop.labelstudio.tokens import token_kind


def jwt(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"header.{payload}.signature"


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("0123456789abcdef0123456789abcdef01234567", "legacy"),
        (jwt(token_type="refresh", exp=8e9), "personal"),
        (jwt(token_type="access", exp=8e9), "access"),
        (f" {jwt(token_type='access')}\n", "access"),
        ("a.b.c", "legacy"),
        ("", "legacy"),
    ],
)
def test_the_kind_of_a_token(token: str, kind: str) -> None:
    assert token_kind(token) == kind
