"""A Label Studio of one's own: own data folder, own port, nothing sent home."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from typing_extensions import Self

from maskloop.demo.process import Process, free_port

PRIVATE_BACKEND = {"ML_BLOCK_LOCAL_IP": "false", "SSRF_PROTECTION_ENABLED": "false"}
"""Label Studio refuses a backend on a private address, such as this machine, unless both are set."""

QUIET = {
    "COLLECT_ANALYTICS": "false",
    "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}


class Studio(Process):
    """``with Studio(program, data, ...) as studio:`` and Label Studio answers at ``studio.url``.

    Args:
        program: the ``label-studio`` executable of its own virtual environment.
        data: folder of its database and uploads; an empty one is set up first (up to a minute).
        email, password: the first user, who owns the organization.
        port: wanted port; a free one is taken when somebody listens there.
        settings: more of Label Studio's own variables.
    """

    def __init__(
        self,
        program: Path,
        data: Path,
        *,
        email: str,
        password: str,
        port: int = 0,
        settings: Mapping[str, str] = PRIVATE_BACKEND,
    ) -> None:
        self.program, self.data = program.absolute(), data.absolute()
        self.email, self.password = email, password
        port = free_port(port)
        # HOST, PORT, DATABASE_URL and LABEL_STUDIO_* mean something else to Label Studio than to MaskLoop.
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        start = ["start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
        super().__init__(
            [str(self.program), *start, "--username", email, "--password", password],
            f"http://127.0.0.1:{port}",
            environment={**kept, **QUIET, "LABEL_STUDIO_BASE_DATA_DIR": str(self.data), **settings},
            log=self.data / "label-studio.log",
            patience=240,
        )

    def start(self) -> Self:
        if not self.program.exists():
            raise FileNotFoundError(f"{self.program} is not there: `make label-studio` installs Label Studio.")
        return super().start()
