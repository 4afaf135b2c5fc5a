"""Checks of the files a command will write, made before its work and not after it."""

from __future__ import annotations

from pathlib import Path

import typer

PICTURES = (".png", ".jpg", ".jpeg", ".svg", ".pdf")
PIXELS = (".png", ".bmp", ".tif", ".tiff", ".webp")
"""Picture formats that keep a mask's pixels as they are."""


def new_file(path: Path | None) -> Path | None:
    """The callback of an option that names a file to write. Raises BadParameter where it could not be written."""
    if path is not None:
        if path.is_dir():
            raise typer.BadParameter(f"{path} is a folder; name a file")
        if not path.absolute().parent.is_dir():
            raise typer.BadParameter(f"the folder {path.absolute().parent} is not there")
    return path


def new_picture(path: Path | None) -> Path | None:
    """Likewise, for a plot."""
    return _of_kind(path, PICTURES)


def new_mask(path: Path | None) -> Path | None:
    """Likewise, for a mask, which JPEG would blur."""
    return _of_kind(path, PIXELS)


def _of_kind(path: Path | None, suffixes: tuple[str, ...]) -> Path | None:
    if path is not None and path.suffix.lower() not in suffixes:
        raise typer.BadParameter(f"{path} must end in one of {', '.join(suffixes)}")
    return new_file(path)
