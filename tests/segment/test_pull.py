from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from maskloop.segment.card import Card, ModelError, read_card, write_card
from maskloop.segment.catalog import Catalog
from maskloop.segment.pull import pull

pytest.importorskip("huggingface_hub", reason="pulling needs the extra [sam]")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = save({"x": np.arange(50_000, dtype=np.float32)})
CONFIG = b'{"model_type": "sam"}'


@dataclass
class Hub:
    """The few routes of a hub that the real client asks for, with a connection that may break."""

    files: dict[str, bytes]
    break_after: int = 0
    """Bytes after which the connection ends and the hub is gone; 0 for never."""
    broken: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub({"model.safetensors": WEIGHTS, "config.json": CONFIG})

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            state.asked.append((self.path, self.headers.get("Range", "")))
            if self.path.startswith("/api/models/"):
                siblings = [
                    {"rfilename": name, "size": len(data), "lfs": lfs(data)} for name, data in state.files.items()
                ]
                self.send(json.dumps({"id": "o/m", "sha": COMMIT, "siblings": siblings}).encode(), {}, body)
                return
            name = self.path.rsplit("/", 1)[-1].split("?")[0]
            if name not in state.files:
                self.send_error(404)
                return
            if state.broken:
                self.send_error(404)
                return
            data = state.files[name]
            self.send(data, {"ETag": f'"{digest(data)}"', "X-Repo-Commit": COMMIT}, body)

        def send(self, data: bytes, headers: dict[str, str], body: bool) -> None:
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            self.send_response(206 if start else 200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if body:
                state.broken = bool(state.break_after) and len(data) > state.break_after
                self.wfile.write(data[start : start + state.break_after] if state.break_after else data[start:])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lfs(data: bytes) -> dict[str, object]:
    return {"sha256": digest(data), "size": len(data), "pointerSize": 130}


def catalog(tmp_path: Path, **files: str) -> Catalog:
    known = {"model.safetensors": "", "config.json": ""} | {f.replace("_", "."): d for f, d in files.items()}
    write_card(tmp_path / "models" / "m", Card("m", "sam", "MIT", "d", source="o/m", files=known))
    return Catalog(tmp_path / "models", tmp_path / "data")


def saved(folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_bytes(CONFIG)
    return folder


def test_a_model_comes_from_the_hub_and_its_card_says_what_came(tmp_path: Path, hub: Hub) -> None:
    models = catalog(tmp_path)
    assert not models.available("m")
    card = pull(models, "m", endpoint=hub.url)
    assert card.revision == COMMIT
    assert card.files == {"model.safetensors": digest(WEIGHTS), "config.json": digest(CONFIG)}
    assert models.available("m")
    folder = tmp_path / "data" / "models" / "m"
    assert models.folder("m") == folder
    assert read_card(folder) == card
    assert models.version("m") == f"m-{digest(WEIGHTS)[:8]}"
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "model.toml"]
    assert [path.name for path in folder.parent.iterdir()] == ["m"]


def test_what_was_recorded_is_all_that_is_accepted_later(tmp_path: Path, hub: Hub) -> None:
    models = catalog(tmp_path)
    pull(models, "m", endpoint=hub.url)
    hub.files["model.safetensors"] = save({"x": np.zeros(3, np.float32)})
    (tmp_path / "data" / "models" / "m" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="is not what was promised"):
        pull(models, "m", endpoint=hub.url)


def test_a_broken_download_is_refused_and_the_next_one_completes_it(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 16_384)
    models = catalog(tmp_path)
    hub.break_after = 60_000
    with pytest.raises(ModelError, match="Try again"):
        pull(models, "m", endpoint=hub.url)
    assert not models.available("m")
    hub.break_after, hub.broken = 0, False
    pull(models, "m", endpoint=hub.url)
    assert models.available("m")
    assert (models.folder("m") / "model.safetensors").read_bytes() == WEIGHTS
    kept = max(int(asked.removeprefix("bytes=").split("-")[0] or 0) for _, asked in hub.asked if asked)
    assert kept >= 16_384, "nothing was resumed"


def test_a_file_that_the_card_does_not_promise_is_refused(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(ModelError, match="is not what was promised"):
        pull(catalog(tmp_path, model_safetensors="0" * 64), "m", endpoint=hub.url)
    assert not (tmp_path / "data" / "models" / "m").exists()


def test_a_hub_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="o/m could not be downloaded"):
        pull(catalog(tmp_path), "m", endpoint="http://127.0.0.1:9")


def test_a_model_comes_from_a_folder(tmp_path: Path) -> None:
    models, told = catalog(tmp_path), []
    pull(models, "m", saved(tmp_path / "saved"), progress=lambda file, done, total: told.append((file, done, total)))
    assert models.available("m")
    assert ("model.safetensors", len(WEIGHTS), len(WEIGHTS)) in told
    again = pull(models, "m", tmp_path / "saved")
    assert again.files["model.safetensors"] == digest(WEIGHTS)


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    source = saved(tmp_path / "saved")
    (source / "model.safetensors").write_bytes(b"\x80\x04 a pickle, say")
    with pytest.raises(ModelError, match="not a safetensors file"):
        pull(catalog(tmp_path), "m", source)
    (source / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="is missing"):
        pull(catalog(tmp_path), "m", source)


def test_what_cannot_be_pulled_is_said(tmp_path: Path) -> None:
    models = catalog(tmp_path)
    write_card(tmp_path / "models" / "plain", Card("plain", "watershed", "MIT", "d"))
    write_card(tmp_path / "models" / "own", Card("own", "x", "MIT", "d", source="us", files={"w.safetensors": ""}))
    with pytest.raises(ModelError, match="nothing to pull"):
        pull(models, "plain")
    with pytest.raises(ModelError, match="on no hub"):
        pull(models, "own")
    with pytest.raises(ModelError, match="no model"):
        pull(models, "unknown")


def test_a_disk_that_takes_nothing_is_said_in_words_and_the_copy_is_no_burden(tmp_path: Path) -> None:
    models = catalog(tmp_path)
    (tmp_path / "data").write_text("no folder")
    with pytest.raises(ModelError, match="MASKLOOP_DATA_DIR"):
        pull(models, "m", saved(tmp_path / "saved"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_no_half_a_copy(tmp_path: Path) -> None:
    models = catalog(tmp_path)
    partial = tmp_path / "data" / "models" / ".m.partial"
    partial.mkdir(parents=True)
    (partial / "config.json").symlink_to("/dev/full")
    with pytest.raises(ModelError, match="make room"):
        pull(models, "m", saved(tmp_path / "saved"))
    assert not partial.exists()
    pull(models, "m", tmp_path / "saved")
    assert models.available("m")
