"""What is wrong with a command's options is said before any work is done."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from maskloop.cli import build
from maskloop.ledger import Ledger
from maskloop.settings import Settings


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of one object, of the set "cells"; and a data folder."""
    monkeypatch.setenv("MASKLOOP_DATA_DIR", str(tmp_path / "own"))
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        Image.new("L", (8, 8), 255).save(tmp_path / "data" / kind / "one.png")
    (tmp_path / "data" / "index.csv").write_text("dataset,image,mask,split\ncells,one.png,one.png,eval\n")
    return tmp_path / "data"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(build(), [*map(str, arguments)], env={"COLUMNS": "300", "TERM": "dumb"})
    return result.exit_code, " ".join(result.output.replace("\u2502", " ").split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("eval", "--source", "nobody", "--data"), "no objects of nobody"),
        (("eval", "--split", "nowhere", "--data"), "rows of the split 'nowhere'"),
        (("eval", "--json", "/nowhere/figures.json", "--data"), "folder /nowhere is not there"),
        (("eval", "--plot", "curves.txt", "--data"), "must end in one of .png"),
        (("bench", "learning", "--json", "/", "--data"), "/ is a folder"),
        (("bench", "learning", "--images", "0", "--data"), "greater than or equal to 1"),
        (("bench", "click", "--sam", "nobody", "--data"), "nobody"),
        (("bench", "click", "--sam", "clicknet", "--data"), "not a pulled model of the SAM family"),
    ],
)
def test_of_commands_on_data(data: Path, arguments: tuple[str, ...], says: str) -> None:
    code, text = run(*arguments, data)
    assert code == 2
    assert says in text


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("bench", "load", "--annotators", "many"), 2, "'many' is not 1 or more"),
        (("bench", "load", "--annotators", "0"), 2, "'0' is not 1 or more"),
        (("bench", "load", "--workers", "1,-1"), 2, "'1,-1' is not 0 or more"),
        (("bench", "load", "--workers", "0", "--model", "nobody"), 1, "no model 'nobody'"),
        (("bench", "load", "--annotators", "1", "--url", "http://127.0.0.1:1", "--seconds", "5"), 1, "Not one click"),
        (("train", "-p", "99"), 1, "project 99: no annotation has come"),
        (("train", "-p", "0"), 2, "greater than or equal to 1"),
        (("next", "-p", "1", "--count", "0"), 2, "greater than or equal to 1"),
        (("doctor", "--label-studio", "localhost:8080"), 2, "a whole URL that starts with http://"),
    ],
)
def test_of_commands_on_servers_and_projects(data: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    ended, text = run(*arguments)
    assert says in text
    assert ended == code


def test_a_training_of_a_project_that_nobody_knows_is_not_asked_for(data: Path) -> None:
    run("train", "-p", "99")
    assert Ledger(Settings().ledger_url).trainings(99, 5) == []


def test_jobs_says_that_redis_is_away(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{closed.getsockname()[1]}/0")
        code, text = run("jobs")
    assert code == 1
    assert "inside the server" not in text
    assert "REDIS_URL) does not answer" in text


def test_jobs_of_the_embedded_shape(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    code, text = run("jobs")
    assert code == 0
    assert "inside the server" in text
