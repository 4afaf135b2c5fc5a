"""MaskLoop as a model class of label-studio-ml, of generation 1.0 (the package index) or 2 (its repository).

label-studio-ml 1.0.9 pins libraries that MaskLoop cannot run with, so the two live in different virtual
environments and talk over HTTP. This file imports nothing of MaskLoop.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import time
from typing import Any

import requests
from label_studio_ml.model import LabelStudioMLBase

FORWARDED = ("Authorization", "Content-Type", "X-MaskLoop-Secret")
START_SECONDS = 120.0


class Server:
    """The MaskLoop server behind: the one at ML_BACKEND_URL, or one of its own on a free port of this machine."""

    def __init__(self) -> None:
        self.url = os.environ.get("ML_BACKEND_URL", "").rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False

    def start(self, settings: dict[str, str]) -> None:
        """Start one unless ML_BACKEND_URL names one. Raises RuntimeError when it does not come up."""
        if self.url:
            return
        command = os.environ.get("ML_BACKEND_COMMAND", "maskloop")
        program = shutil.which(command)
        if program is None:
            raise RuntimeError(
                f"{command} is not on the PATH. Install MaskLoop in a virtual environment of its own and set "
                "ML_BACKEND_COMMAND to its `maskloop`, or ML_BACKEND_URL to a server that runs already."
            )
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        own = {"HOST": "127.0.0.1", "PORT": port, **settings}
        process = subprocess.Popen([program, "serve"], env={**os.environ, **own})
        atexit.register(process.terminate)
        self.url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and process.poll() is None:
            try:
                self.call("GET", "/health")  # any answer will do: without the password it is a 401
                return
            except requests.RequestException:
                time.sleep(0.2)
        raise RuntimeError(f"`{program} serve` did not come up within {START_SECONDS:.0f} s; its own output says why")

    def call(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> requests.Response:
        """One request, and the answer as it came."""
        return self._session.request(method, self.url + path, data=body, headers=headers, timeout=100)

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        user, password = os.environ.get("BASIC_AUTH_USER"), os.environ.get("BASIC_AUTH_PASS")
        auth = (user, password) if user and password else None
        response = self._session.post(self.url + path, json=body, auth=auth, timeout=100)
        response.raise_for_status()
        return response.json()


server = Server()


class MaskLoop(LabelStudioMLBase):  # type: ignore[misc]
    """What label-studio-ml wants a model to be. Its web server hands requests on before it comes to this."""

    def predict(self, tasks: list[dict[str, Any]], context: dict[str, Any] | None = None, **kwargs: Any) -> list[Any]:
        """One entry for each task, as MaskLoop answers them."""
        project = next((task["project"] for task in tasks if task.get("project")), None)
        body = {
            "tasks": tasks,
            "project": None if project is None else f"{project}.0",
            "label_config": self.label_config or "",
            "params": {"context": context or None},
        }
        results: list[Any] = server.ask("/predict", body)["results"]
        return results

    def fit(self, event: Any, data: dict[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
        """An event of Label Studio; MaskLoop records it and decides itself when to train."""
        answer: dict[str, Any] = server.ask("/webhook", {"action": str(event), **(data or {})})
        return answer
