"""The two servers on their own: does MaskLoop answer, does Label Studio take the token and the address?"""

from __future__ import annotations

import time
from collections.abc import Iterator

import requests

from maskloop.labelstudio.checkup.finding import PRIVATE, Door, Finding, Verdict, good, problem
from maskloop.labelstudio.client import LabelStudioClient, LabelStudioError, Refused
from maskloop.labelstudio.connections import Connections
from maskloop.labelstudio.tokens import token_kind

HEALTH_SECONDS = 1.0
"""Label Studio gives /health no longer than that (ML_TIMEOUT_HEALTH)."""
TOKEN = "In Label Studio: Account & Settings > Personal Access Token > Create; set LABEL_STUDIO_API_KEY to it."


def examine_backend(door: Door) -> Iterator[Finding]:
    about = "MaskLoop"
    started = time.monotonic()
    try:
        answer = requests.get(f"{door.url}/health", auth=door.auth, timeout=10)
        took = time.monotonic() - started
        behind_door = requests.get(f"{door.url}/versions", auth=door.auth, timeout=10)
    except requests.RequestException as error:
        yield problem(
            about,
            f"{door.url} does not answer from here: {_why(error)}.",
            "Start it with `make run` or `maskloop serve`, or name where it is with --backend.",
        )
        return
    if answer.status_code == 401 or behind_door.status_code == 401:
        yield problem(
            about,
            f"{door.url} does not accept this user name and password.",
            "Run the doctor with the same BASIC_AUTH_USER and BASIC_AUTH_PASS that MaskLoop runs with.",
        )
    elif not answer.ok or not behind_door.ok:
        yield problem(about, f"{door.url} answers HTTP {answer.status_code}: this is not MaskLoop.", "Check --backend.")
    elif took > HEALTH_SECONDS:
        yield problem(
            about,
            f"{door.url}/health took {took:.1f} s; Label Studio gives up after {HEALTH_SECONDS:.0f} s.",
            "The machine is overloaded, or something slow stands between the two.",
        )
    else:
        yield good(about, f"{door.url} answers.")


def examine_studio(url: str, api_key: str) -> Iterator[Finding]:
    about = "Label Studio"
    try:
        release = requests.get(f"{url}/api/version", timeout=10).json()["release"]
    except (requests.RequestException, ValueError, TypeError, KeyError) as error:
        yield problem(
            about,
            f"{url} does not answer as Label Studio does: {_why(error)}.",
            "Check --label-studio. Inside a container, localhost is the container itself: use the service's name, or "
            "http://host.docker.internal:8080 for a Label Studio on the host.",
        )
        return
    yield good(about, f"{url} is Label Studio {release}.")
    about = "token"
    if not api_key:
        yield problem(about, "There is no token: uploaded images and annotations cannot be read.", TOKEN)
        return
    kind = token_kind(api_key)
    try:
        owner = LabelStudioClient(url, api_key).whoami()
    except Refused as error:
        yield problem(about, *_refusal(kind, str(error)))
    except LabelStudioError as error:
        yield problem(about, str(error))
    else:
        name = "personal access token" if kind == "personal" else "legacy token"
        yield good(about, f"The {name} of {owner} works.")


def _why(error: Exception) -> str:
    match error:
        case requests.JSONDecodeError():
            return "what comes back is not its API"
        case requests.Timeout():
            return "nothing came back in ten seconds"
        case requests.ConnectionError():
            return "no connection"
        case requests.RequestException():
            return str(error)
    return "what comes back is not its API"


def _refusal(kind: str, message: str) -> tuple[str, str]:
    if kind == "access":
        return "This is an access token, which lives five minutes.", TOKEN
    if kind == "personal":
        return (
            "The personal access token could not be exchanged for an access token: it was revoked, has expired, or "
            "belongs to another Label Studio.",
            TOKEN,
        )
    if "disabled" in message:
        return (
            "This is a legacy token, and this Label Studio has legacy tokens switched off (its default).",
            f"{TOKEN} Or allow legacy tokens under Organization > API Tokens Settings.",
        )
    return "Label Studio does not know this legacy token.", TOKEN


def examine_addresses(client: LabelStudioClient, door: Door) -> Iterator[Finding]:
    about = "private address"
    try:
        backend, webhook = (
            Connections(client).blocks_backend(door.url),
            Connections(client).blocks_webhook(f"{door.url}/webhook"),
        )
    except Refused:
        yield Finding(
            Verdict.WARNING, about, "The token's owner may not connect backends; run the doctor as an administrator."
        )
        return
    if backend:
        yield problem(about, f"Label Studio refuses to call {door.url}: its address is private.", PRIVATE)
    elif webhook:
        yield problem(
            about, f"Label Studio sends clicks to {door.url}, but no webhooks: its address is private.", PRIVATE
        )
    else:
        yield good(about, f"Label Studio may call {door.url}.")
