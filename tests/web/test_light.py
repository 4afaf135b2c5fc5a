"""A web process of the scaled-out shape holds no model: it starts without torch and stays small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.redis_server import RedisServer, needs_redis

START = """
import json, psutil, sys
from maskloop.settings import Settings
from maskloop.web.app import create_app
from maskloop.web.services import build
services = build(Settings())
client = create_app(services).test_client()
status = [client.get(path).status_code for path in ("/health", "/ready", "/metrics", "/")]
loaded = sorted(name for name in ("torch", "transformers", "label_studio_sdk") if name in sys.modules)
print(json.dumps({"status": status, "loaded": loaded, "bytes": psutil.Process().memory_info().rss}))
services.close()
"""


@needs_redis
def test_no_torch_and_less_than_150_mb(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    try:
        own = {"REDIS_URL": server.url, "MASKLOOP_DATA_DIR": str(tmp_path / "data"), "MASKLOOP_MODEL": "graphcut"}
        run = subprocess.run(
            [sys.executable, "-c", START], env={**os.environ, **own}, cwd=tmp_path, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        found = json.loads(run.stdout)
    finally:
        server.stop()
    assert found["status"] == [200, 503, 200, 200]
    assert found["loaded"] == []
    assert found["bytes"] < 150e6
