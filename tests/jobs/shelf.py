"""The part of Label Studio that stores predictions, behind a real socket: it can be made slow."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from maskloop.labelstudio.client import LabelStudioClient
from tests.labelstudio.server import Handler, reply, serving


@dataclass
class Shelf:
    """``stored`` are versions by task; ``pushed`` are the tasks that came through the API."""

    client: LabelStudioClient
    stored: dict[int, list[str]] = field(default_factory=dict)
    pushed: list[int] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)
    refuses: bool = False

    def store(self, *tasks: int, version: str = "v1") -> None:
        for task in tasks:
            self.stored.setdefault(task, []).append(version)

    def handle(self, request: Handler) -> None:
        self.answers.wait(20)
        if self.refuses:
            reply(b"{}", 403, Content_Type="application/json")(request)
            return
        if request.command == "POST":
            body = json.loads(request.body)
            self.pushed.append(body["task"])
            self.store(body["task"], version=body["model_version"])
            found: object = {"id": 1, **body}
        else:
            task = int(parse_qs(urlsplit(request.path).query)["task"][0])
            common = {"task": task, "result": [], "score": 0.5}
            found = [{"id": n, "model_version": v, **common} for n, v in enumerate(self.stored.get(task, []))]
        status = 201 if request.command == "POST" else 200
        reply(json.dumps(found).encode(), status, Content_Type="application/json")(request)


@contextmanager
def open_shelf() -> Iterator[Shelf]:
    with serving() as server:
        shelf = Shelf(LabelStudioClient(server.url, "5ec2e7" * 6 + "abcd"))
        shelf.answers.set()
        server.routes["/api/predictions/"] = shelf.handle
        yield shelf
        shelf.answers.set()
