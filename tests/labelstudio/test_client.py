"""What the client knows before it asks anybody; what it asks is tested in tests/e2e/test_client.py."""

import base64
import json
import subprocess
import sys

import pytest

from maskloop.labelstudio.client import LabelStudioClient, LabelStudioError, Refused, token_kind


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


def test_what_is_missing_is_named() -> None:
    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_URL"):
        LabelStudioClient("", "token")
    with pytest.raises(LabelStudioError, match="LABEL_STUDIO_API_KEY"):
        LabelStudioClient("http://localhost:8080", "")


def test_an_access_token_is_refused_before_anything_is_asked() -> None:
    client = LabelStudioClient("http://127.0.0.1:9", jwt(token_type="access"))
    with pytest.raises(Refused, match="five minutes"):
        client.whoami()


def test_importing_it_does_not_import_the_sdk() -> None:
    check = "import sys, maskloop.labelstudio.client; sys.exit('label_studio_sdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
