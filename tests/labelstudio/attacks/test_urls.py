"""Where a URL may lead. Each test is an attack that has to fail."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

import pytest

from maskloop.labelstudio.addresses import is_public
from maskloop.labelstudio.images import ImageError

from ..server import Server, redirect, reply
from .door import PNG, UPLOAD, refused, store


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1/a.png",
        "http://localhost/a.png",
        "http://[::1]/a.png",
        "http://[::ffff:127.0.0.1]/a.png",
        "http://0.0.0.0/a.png",
        "http://0x7f.1/a.png",
        "http://2130706433/a.png",
        "http://127.1/a.png",
        "http://10.0.0.1/a.png",
        "http://192.168.1.1/a.png",
        "http://100.64.0.1/a.png",
        "http://[fe80::1]/a.png",
        "http://[fd00::1]/a.png",
        "http://[64:ff9b::7f00:1]/a.png",
    ],
)
def test_private_addresses_even_where_any_host_is_allowed(url: str) -> None:
    assert "not public" in refused(store(None, "*"), url)
    assert "MASKLOOP_IMAGE_HOSTS" in refused(store(None), url)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("172.16.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::a00:1", False),
        ("ff02::1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) == public


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:{port}/secret.png",
        "http://localhost:{port}/secret.png",
        "//127.0.0.1:{port}/secret.png",
        "http://[::1]:{port}/secret.png",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/",
        "ftp://127.0.0.1:{port}/secret.png",
    ],
)
@pytest.mark.parametrize("origin", ["label studio", "allowed host"])
def test_redirects_are_checked_like_first_requests(studio: Server, victim: Server, target: str, origin: str) -> None:
    location = target.format(port=victim.port)
    studio.routes[UPLOAD] = redirect(location)
    if origin == "label studio":
        refused(store(studio), UPLOAD)
    else:
        refused(store(None, f"127.0.0.1:{studio.port}"), f"{studio.url}{UPLOAD}")
    assert studio.paths == [UPLOAD]


def test_another_port_of_label_studios_host(studio: Server, victim: Server) -> None:
    assert "MASKLOOP_IMAGE_HOSTS" in refused(store(studio), f"{victim.url}/secret.png")


def test_redirects_without_end(studio: Server) -> None:
    studio.routes[UPLOAD] = redirect(UPLOAD)
    assert "redirects more than" in refused(store(studio), UPLOAD)
    assert len(studio.paths) < 10


def test_a_name_is_resolved_once_and_that_address_is_asked(studio: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the second answer for the same name would be another address."""
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", studio.port))]]
    real = socket.getaddrinfo

    def lookup(host: Any, *args: Any, **named: Any) -> Any:
        if host == "rebind.example":
            return answers.pop(0)
        return real(host, *args, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    studio.routes["/a.png"] = reply(PNG)
    store(None, f"rebind.example:{studio.port}").load(f"http://rebind.example:{studio.port}/a.png")
    assert answers == []
    assert studio.seen[0][3] == f"rebind.example:{studio.port}"


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("93.184.216.34", "10.0.0.7")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    assert "10.0.0.7" in refused(store(None, "*.example"), "http://a.example/a.png")


@pytest.mark.parametrize(
    ("allowed", "url"),
    [
        ("images.example", "http://images.example:6379/a.png"),
        ("images.example", "http://evil-images.example/a.png"),
        ("images.example", "http://images.example.evil/a.png"),
        ("*.example", "http://example/a.png"),
        ("*.example", "http://a.example:8080/a.png"),
        ("images.example:8080", "http://images.example/a.png"),
        ("*", "http://a.example:22/a.png"),
    ],
)
def test_the_allow_list_means_what_it_says(allowed: str, url: str) -> None:
    assert "images are not fetched from" in refused(store(None, allowed), url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}@evil.example/a.png",
        "http://user:pass@127.0.0.1:{port}/secret.png",
        "http://127.0.0.1:{port}\\@evil.example/secret.png",
        "http://127.0.0.1:{port}/a.png\r\nX-Injected: 1",
        "http://127.0.0.1:{port}/a\0.png",
        "http:///secret.png",
        "http://127.0.0.1:notaport/a.png",
        "http://127.0.0.1:0/a.png",
        "http://[::1/a.png",
        "http://ехаmple/a.png",
        "javascript:alert(1)",
        "",
        " ",
    ],
)
def test_urls_that_mean_two_things(studio: Server, url: str) -> None:
    refused(store(studio), url.format(port=studio.port))
    assert not any("secret" in path or "Injected" in path for path in studio.paths)


@pytest.mark.parametrize(
    "path",
    [
        "/api/users/",
        "/api/token/",
        "/user/logout",
        "/data/../api/users/",
        "/data/%2e%2e/api/users/",
        "/data/upload/1/../../../api/users/",
        "/tasks/1/../../api/users/",
        "//evil.example/a.png",
        "/projects/1/settings",
    ],
)
def test_a_task_cannot_have_the_api_called(studio: Server, path: str) -> None:
    """A GET with the operator's token is a door, whatever becomes of the answer."""
    studio.routes[path] = reply(PNG)
    refused(store(studio), path)
    assert studio.seen == []
    with contextlib.suppress(ImageError):
        store(studio).load(studio.url + path.replace("//", "/"))
    assert all(authorization is None for _, _, authorization, _ in studio.seen)


def test_proxies_of_the_environment_are_not_used(
    studio: Server, victim: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, victim.url)
    studio.routes[UPLOAD] = reply(PNG)
    store(studio).load(UPLOAD)
