"""A server process of one's own: started, waited for, and ended with its children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests
from typing_extensions import Self


def free_port(preferred: int = 0) -> int:
    """``preferred`` if nobody listens there, else any free port of the loopback interface."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


class Process:
    """A program that answers ``url`` + ``health`` once it is up; a context manager.

    Args:
        environment: its whole environment.
        log: where its output goes.
        patience: seconds within which it must answer.
    """

    def __init__(
        self,
        command: Sequence[str],
        url: str,
        *,
        environment: Mapping[str, str],
        log: Path,
        patience: float,
        health: str = "/health",
    ) -> None:
        self.command, self.url, self.log, self.health = list(command), url, log, health
        self.environment, self.patience = dict(environment), patience
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.command[0]} was not started")
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def start(self) -> Self:
        """Start and wait until it answers; :class:`RuntimeError` with the end of the log if it does not."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.log.parent,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, seconds: float = 15) -> None:
        """End it and its children: politely first."""
        if self._process is None or self._process.poll() is not None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _wait_until_up(self) -> None:
        end = time.monotonic() + self.patience
        while time.monotonic() < end and not self.has_ended:
            try:
                if requests.get(f"{self.url}{self.health}", timeout=2).ok:
                    return
            except requests.RequestException:
                pass
            time.sleep(0.2)
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        state = "has ended" if self.has_ended else f"gave no answer in {self.patience:.0f} s"
        raise RuntimeError(f"{Path(self.command[0]).name} {state}. The end of {self.log}:\n{tail}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *raised: object) -> None:
        self.stop()


class Backend(Process):
    """``maskloop serve`` on the loopback interface, with a data folder of its own.

    Args:
        settings: environment variables on top of the present ones.
    """

    def __init__(self, data: Path, settings: Mapping[str, str], port: int = 0) -> None:
        port = free_port(port)
        own = {"HOST": "127.0.0.1", "PORT": str(port), "MASKLOOP_DATA_DIR": str(data.absolute())}
        super().__init__(
            [str(Path(sys.executable).with_name("maskloop")), "serve"],
            f"http://127.0.0.1:{port}",
            environment={**os.environ, "REDIS_URL": "", "DATABASE_URL": "", **own, **settings},
            log=data.absolute() / "maskloop.log",
            patience=180,
            health="/ready",
        )
