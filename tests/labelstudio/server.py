"""A real HTTP server on a loopback address, in the place of Label Studio or of an attacker."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

import numpy as np
from PIL import Image

Answer = Callable[["Handler"], None]


@dataclass
class Server:
    """``routes`` by path without query; ``seen`` are (method, path, Authorization, Host)."""

    url: str
    port: int
    routes: dict[str, Answer] = field(default_factory=dict)
    seen: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _, _ in self.seen]


class Handler(BaseHTTPRequestHandler):
    state: Server
    body = b""

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.state.seen.append((self.command, self.path, self.headers.get("Authorization"), self.headers.get("Host")))
        self.state.routes.get(self.path.split("?")[0], missing)(self)

    do_POST = do_PATCH = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing on the test's terminal."""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            return  # the client hung up, as it should on an attack


def missing(request: Handler) -> None:
    reply(b"", 404)(request)


def reply(body: bytes, status: int = 200, **fields: str) -> Answer:
    def answer(request: Handler) -> None:
        request.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **fields}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return answer


def redirect(location: str, status: int = 302) -> Answer:
    return reply(b"", status, Location=location)


@contextmanager
def serving(prepare: Callable[[HTTPServer], None] | None = None) -> Iterator[Server]:
    """A server on a free port of 127.0.0.1; ``prepare`` may change it before it starts."""

    class Bound(Handler):
        pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
    httpd.daemon_threads = True
    httpd.block_on_close = False
    port = int(httpd.server_address[1])
    Bound.state = Server(f"http://127.0.0.1:{port}", port)
    if prepare is not None:
        prepare(httpd)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Bound.state
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def pixels(height: int = 20, width: int = 30, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()
