"""What the client knows before it asks anybody; what it asks is tested in tests/e2e/test_client.py."""

import subprocess
import sys

import pytest

from maskloop.labelstudio.client import LabelStudioClient, LabelStudioError, Missing, Refused, Unreachable

from .server import reply, serving
from .test_tokens import jwt

KEY = "5ec2e7" * 6 + "abcd"


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


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, LabelStudioError), (403, Refused), (404, Missing), (503, Unreachable)],
)
def test_what_an_answer_means(status: int, error: type[LabelStudioError]) -> None:
    with serving() as server:
        server.routes["/api/projects/1/"] = reply(b'{"detail": "the reason"}', status, Content_Type="application/json")
        with pytest.raises(LabelStudioError) as caught:
            LabelStudioClient(server.url, KEY).project(1)
    assert type(caught.value) is error
    assert KEY not in str(caught.value)
