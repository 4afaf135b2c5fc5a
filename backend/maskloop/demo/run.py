"""The two processes of the demo, started in order and stopped together."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
import webbrowser
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import quote

from maskloop.demo.account import Account
from maskloop.demo.process import Backend
from maskloop.demo.project import find_or_create
from maskloop.demo.studio import Studio

if TYPE_CHECKING:
    from rich.console import Console

EMAIL, PASSWORD = "demo@example.com", "click-to-mask"
"""Known to all, and reachable from this machine only."""

HOWTO = """
  Log in as [bold]{email}[/] with password [bold]{password}[/] at

      [bold cyan]{url}[/]

  1. Switch [bold]Auto-Annotation[/] on (below the image).
  2. Hover the last tool of the toolbar, choose the [bold]key point[/], and press [bold]1[/] for a label.
  3. [bold]Click[/] an object: its mask appears. More clicks add, [bold]Alt+click[/] takes away.
     The green tick keeps the mask, the red cross drops it.
     With the rectangle and [bold]4[/]: drag a box; [bold]Ctrl+click[/] adds, [bold]Ctrl+Alt+click[/] takes away.

  MaskLoop's status page: {backend}    Logs: {logs}    [bold]Ctrl+C[/] stops both."""


class Demo:
    """Label Studio and ``maskloop serve``, both on the loopback interface only."""

    def __init__(self, program: Path, data: Path, studio_port: int, backend_port: int) -> None:
        self.data, self._wanted = data.absolute(), (studio_port, backend_port)
        self.studio = Studio(program, self.data / "label-studio", email=EMAIL, password=PASSWORD, port=studio_port)
        self.backend = Backend(self.data / "maskloop", {}, backend_port)

    def start(self, console: Console, open_browser: bool) -> str:
        """Start both, make the project the first time, say where to click; the URL of the first task."""
        # Service managers end a program with SIGTERM, a closed terminal with SIGHUP: the same as Ctrl+C.
        # SIGINT too: a shell starts what it puts in the background with that one ignored.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        self._claim()
        for server, wanted in ((self.studio, self._wanted[0]), (self.backend, self._wanted[1])):
            if wanted and not server.url.endswith(f":{wanted}"):
                console.print(f"Port {wanted} is in use; this demo takes {server.url} instead.")
        with console.status("Starting Label Studio (the first time about a minute) ..."):
            self.studio.start()
        with console.status("Starting MaskLoop ..."):
            account = Account(self.studio.url, EMAIL, PASSWORD)
            self.backend.environment |= {
                "LABEL_STUDIO_URL": self.studio.url,
                "LABEL_STUDIO_API_KEY": self._token(account),
            }
            self.backend.start()
        with console.status("Making the project ..."):
            project = find_or_create(account)
            account.connect(project, self.backend.url)
            first = account.task_ids(project)[0]
        page = f"/projects/{project}/data?task={first}"
        url = f"{self.studio.url}/user/login/?next={quote(page, safe='')}"
        logs = f"{os.path.relpath(self.data)}/*/*.log"
        text = HOWTO.format(email=EMAIL, password=PASSWORD, url=url, backend=self.backend.url, logs=logs)
        console.print(text, soft_wrap=True, highlight=False)
        has_display = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if open_browser and has_display:
            webbrowser.open(url)
        return url

    def wait(self) -> None:
        """Until one of the two ends, which is an error, or Ctrl+C."""
        while True:
            for process in (self.studio, self.backend):
                if process.has_ended:
                    raise RuntimeError(f"{Path(process.command[0]).name} has ended; see {process.log}.")
            time.sleep(1)

    def stop(self) -> None:
        self.backend.stop()
        self.studio.stop()

    def _claim(self) -> None:
        """Hold the data folder until this process ends: two servers on one database would spoil it."""
        self.data.mkdir(parents=True, exist_ok=True)
        self._lock = (self.data / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"One is running already with {self.data}: stop that one, or choose --data.") from None

    def _token(self, account: Account) -> str:
        """The personal access token of the demo's user: made once, then kept beside its database."""
        file = self.studio.data / "personal-access-token"
        if not file.exists():
            token = account.personal_token()
            file.touch(mode=0o600)
            file.write_text(token)
        return file.read_text()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
