"""Servers to be measured: embedded, or web and worker processes around a Redis, each in a fresh folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import requests

from maskloop.demo.process import Backend, free_port


class ShapeError(Exception):
    """A server could not be started; the message says why."""


@contextlib.contextmanager
def shape(workers: int, folder: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """The URL of a server that is ready: embedded with ``workers`` 0, else web, Redis and so many workers."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**settings, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "")}
    environment = {name: value for name, value in environment.items() if value}
    with contextlib.ExitStack() as stack:
        if workers:
            environment["REDIS_URL"] = stack.enter_context(_redis(folder / "redis"))
        server = Backend(folder / "data", environment)
        server.health = "/health"  # ready only with its workers, which start next
        backend = stack.enter_context(server)
        if workers:
            stack.enter_context(_workers(workers, folder, backend.environment))
        _wait_until_ready(backend.url)
        yield backend.url


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str]:
    binary = shutil.which("redis-server") or shutil.which("redis-server", path=str(Path(sys.executable).parent))
    if binary is None:
        raise ShapeError("no redis-server on this machine: install it (Debian: apt install redis-server)")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    arguments = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _workers(count: int, folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    command = [str(Path(sys.executable).with_name("maskloop")), "worker", "--count", str(count)]
    with (folder / "workers.log").open("wb") as log:
        process = subprocess.Popen(command, env=dict(environment), stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def _wait_until_ready(url: str, seconds: float = 120.0) -> None:
    until, why = time.monotonic() + seconds, ""
    while time.monotonic() < until:
        with contextlib.suppress(requests.RequestException):
            response = requests.get(f"{url}/ready", timeout=5)
            if response.ok:
                return
            why = response.json().get("status", "")
        time.sleep(0.2)
    raise ShapeError(f"{url} was not ready within {seconds:.0f} s: {why}")
