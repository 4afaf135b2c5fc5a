"""Bringing a model's weights here: from a hub or from a folder, checked, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from maskloop.segment.card import SAM_EXTRA, WEIGHTS, Card, ModelError, sha256, write_card
from maskloop.segment.catalog import Catalog

BLOCK = 1 << 22


def pull(
    catalog: Catalog,
    name: str,
    source: Path | None = None,
    endpoint: str | None = None,
    progress: Callable[[str, int, int], None] = lambda file, done, total: None,
) -> Card:
    """Fetch the files of a model into the data directory and record on its card what came.

    ``source`` is a folder in the hub's format; without it the files come from the hub named on the card
    (``endpoint`` for a mirror), at the card's revision or, if it has none, the newest. A sha256 on the card
    must match; one that the card lacks is recorded, so that from then on nothing else is accepted. An
    interrupted download is continued. ``progress`` is told file, bytes done and bytes in all. Raises
    ModelError when a file is missing, is not safetensors, is not what the card or the hub promise, or
    cannot be written.
    """
    card = catalog.card(name)
    if catalog.pulled_dir is None:
        raise ModelError("there is no data directory to pull a model into: set MASKLOOP_DATA_DIR")
    if not card.files:
        raise ModelError(f"model {name} needs no weights: there is nothing to pull")
    partial = catalog.pulled_dir / f".{name}.partial"
    try:
        partial.mkdir(parents=True, exist_ok=True)
        if source is not None:
            for file in card.files:
                _copy(source / file, partial / file, progress)
            promised: dict[str, str] = {}
            revision = card.revision
        else:
            revision, promised = _download(card, partial, endpoint)
        files = {}
        for file, expected in card.files.items():
            files[file] = _checked(partial / file, expected or promised.get(file, ""))
        pulled = replace(card, files=files, revision=revision)
        write_card(partial, pulled)
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        _put(partial, catalog.pulled_dir / name)
    except OSError as error:
        if source is not None:  # a copy is not continued, and may be what fills the disk
            shutil.rmtree(partial, ignore_errors=True)
        raise ModelError(
            f"model {name} cannot be put into {catalog.pulled_dir}: {error}; make room there or set MASKLOOP_DATA_DIR"
        ) from None
    return pulled


def _copy(source: Path, target: Path, progress: Callable[[str, int, int], None]) -> None:
    if not source.is_file():
        raise ModelError(f"{source} is missing: --from needs a folder with {target.name}")
    total, done = source.stat().st_size, 0
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(BLOCK):
            writer.write(block)
            done += len(block)
            progress(target.name, done, total)


def _download(card: Card, folder: Path, endpoint: str | None) -> tuple[str, dict[str, str]]:
    """The commit that was downloaded, and the sha256 that the hub states for its large files."""
    if not card.on_hub:
        raise ModelError(f"model {card.name} is on no hub (source: {card.source!r}); use --from FOLDER")
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError:
        raise ModelError(f"pulling needs huggingface_hub: {SAM_EXTRA}") from None
    try:
        about = HfApi(endpoint=endpoint).model_info(card.source, revision=card.revision or None, files_metadata=True)
        commit = str(about.sha)
        for file in card.files:
            hf_hub_download(card.source, file, revision=commit, local_dir=folder, endpoint=endpoint)
    except Exception as error:  # the client's errors and those of the HTTP library it chose have no base in common
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{card.source} could not be downloaded: {reason}. Try again (what is here is kept), "
            f"or fetch {', '.join(card.files)} yourself and use --from FOLDER"
        ) from None
    promised = {s.rfilename: str(s.lfs.sha256) for s in about.siblings or [] if s.lfs is not None}
    return commit, promised


def _checked(path: Path, expected: str) -> str:
    """The sha256 of a file that is what it should be; one that is not is removed, so that it is fetched anew."""
    found = sha256(path)
    if expected and found != expected:
        path.unlink()
        raise ModelError(f"{path.name} is not what was promised: sha256 {found}, expected {expected}; pull it again")
    if path.suffix == WEIGHTS:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as tensors:
                tensors.keys()
        except SafetensorError as error:
            path.unlink()
            raise ModelError(f"{path.name} is not a safetensors file: {error}") from None
    return found


def _put(folder: Path, target: Path) -> None:
    """Move a complete folder to its place. Between two renames there is neither the old one nor the new one."""
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    old = target.with_name(f".{target.name}.{hashlib.sha256(os.urandom(8)).hexdigest()[:8]}.old")
    if target.exists():
        target.rename(old)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)
