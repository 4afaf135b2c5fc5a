from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from maskloop.jobs import promotions
from maskloop.jobs.trainer import Trainer
from maskloop.learn.versions import VersionError, Versions
from maskloop.ledger import Ledger
from maskloop.segment.catalog import Catalog
from maskloop.settings import Settings
from tests.jobs.learning_project import PROJECT, settings
from tests.labelstudio.server import Handler, Server, reply, serving

PATH = f"/api/projects/{PROJECT}/"


@pytest.fixture
def studio() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def chosen(studio: Server) -> list[str]:
    """The model versions that the project in Label Studio was given, in order."""
    found: list[str] = []

    def choose(request: Handler) -> None:
        found.append(json.loads(request.body)["model_version"])
        reply(b'{"id": 1}', Content_Type="application/json")(request)

    studio.routes[PATH] = choose
    return found


def connected(folder: Path, studio: Server) -> Settings:
    return settings(folder, label_studio_url=studio.url, label_studio_api_key="0" * 40, poll_seconds=0, train=False)


def versions(of: Settings) -> Versions:
    return Versions(of.data_dir / "versions", Catalog(of.models_dir, of.data_dir).version(of.model))


def published(found: Versions) -> str:
    def fill(folder: Path) -> None:
        (folder / "model.toml").write_text("family = 'clicknet'")

    return found.publish(PROJECT, "1", fill)


@contextmanager
def away(studio: Server) -> Iterator[None]:
    """Label Studio restarts."""
    back = studio.routes[PATH]
    studio.routes[PATH] = reply(b"", 503)
    yield
    studio.routes[PATH] = back


def test_promoting_and_rolling_back_are_recorded(tmp_path: Path, ledger: Ledger) -> None:
    set_up = settings(tmp_path)
    found = versions(set_up)
    name = published(found)
    promotions.promote(set_up, ledger, found, PROJECT, name, "person")
    promotions.promote(set_up, ledger, found, PROJECT, name, "person")
    assert promotions.rollback(set_up, ledger, found, PROJECT) == found.base
    assert [(p.version, p.by) for p in ledger.promotions(PROJECT)] == [(found.base, "rollback"), (name, "person")]
    with pytest.raises(VersionError):
        promotions.promote(set_up, ledger, found, PROJECT, "nothing", "person")


def test_label_studio_is_told(tmp_path: Path, ledger: Ledger, studio: Server, chosen: list[str]) -> None:
    set_up = connected(tmp_path, studio)
    found = versions(set_up)
    name = published(found)
    promotions.promote(set_up, ledger, found, PROJECT, name, "gate")
    assert chosen == [name]
    assert ledger.untold() == []
    promotions.tell_again(set_up, ledger)
    assert chosen == [name]


def test_label_studio_is_told_later_if_it_was_away(
    tmp_path: Path, ledger: Ledger, studio: Server, chosen: list[str]
) -> None:
    set_up = connected(tmp_path, studio)
    found = versions(set_up)
    name = published(found)
    with away(studio):
        promotions.promote(set_up, ledger, found, PROJECT, name, "gate")
        assert found.current(PROJECT) == name
        Trainer(set_up, ledger).step()
        assert [promotion.version for promotion in ledger.untold()] == [name]
    Trainer(set_up, ledger).step()
    assert chosen == [name]
    assert ledger.untold() == []


def test_a_person_who_promotes_what_is_current_is_not_forgotten_either(
    tmp_path: Path, ledger: Ledger, studio: Server, chosen: list[str]
) -> None:
    set_up = connected(tmp_path, studio)
    found = versions(set_up)
    name = published(found)
    promotions.promote(set_up, ledger, found, PROJECT, name, "gate")
    with away(studio):
        promotions.promote(set_up, ledger, found, PROJECT, name, "person")
    promotions.tell_again(set_up, ledger)
    promotions.tell_again(set_up, ledger)
    assert chosen == [name, name]


def test_only_what_is_current_is_told_later(tmp_path: Path, ledger: Ledger, studio: Server, chosen: list[str]) -> None:
    set_up = connected(tmp_path, studio)
    found = versions(set_up)
    name = published(found)
    with away(studio):
        promotions.promote(set_up, ledger, found, PROJECT, name, "gate")
    promotions.rollback(set_up, ledger, found, PROJECT)
    promotions.tell_again(set_up, ledger)
    assert chosen == [found.base]


def test_a_refusal_is_not_tried_again(tmp_path: Path, ledger: Ledger, studio: Server) -> None:
    set_up = connected(tmp_path, studio)
    found = versions(set_up)
    studio.routes[PATH] = reply(b'{"detail": "no"}', 403, Content_Type="application/json")
    promotions.promote(set_up, ledger, found, PROJECT, published(found), "gate")
    assert ledger.untold() == []
