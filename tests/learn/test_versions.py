from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskloop.learn.versions import Overtaken, VersionError, Versions

BASE = "clicknet-0a1b2c3d"


def fill(text: str = "weights"):  # type: ignore[no-untyped-def]
    def write(folder: Path) -> None:
        (folder / "model.toml").write_text("family = 'clicknet'\n")
        (folder / "model.safetensors").write_text(text)

    return write


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path, BASE)


def test_every_project_starts_from_the_base(versions: Versions) -> None:
    assert versions.current(None) == versions.current(1) == BASE
    assert versions.folder(BASE) is None
    assert versions.list(1) == ()


def test_a_published_version_is_not_current_until_promoted(versions: Versions, tmp_path: Path) -> None:
    name = versions.publish(1, "20261123.1", fill())
    assert name == f"{BASE}-p1-20261123.1"
    assert versions.current(1) == BASE
    assert versions.promote(1, name) == BASE
    assert versions.current(1) == name
    assert versions.current(2) == BASE
    assert Versions(tmp_path, BASE).current(1) == name
    folder = versions.folder(name)
    assert folder is not None
    assert (folder / "model.safetensors").read_text() == "weights"
    assert [(v.name, v.current) for v in versions.list(1)] == [(name, True)]


def test_a_change_is_seen_by_who_has_looked_before(versions: Versions, tmp_path: Path) -> None:
    other = Versions(tmp_path, BASE)
    names = [versions.publish(1, str(k), fill()) for k in range(5)]
    for name in names:
        versions.promote(1, name)
        assert other.current(1) == name
    for name in [*reversed(names[:-1]), BASE]:
        assert versions.rollback(1) == name
        assert other.current(1) == name
    with pytest.raises(VersionError, match="first version"):
        versions.rollback(1)


def test_publishing_a_serial_again_changes_nothing(versions: Versions) -> None:
    name = versions.publish(1, "7", fill("first"))
    assert versions.publish(1, "7", fill("second")) == name
    folder = versions.folder(name)
    assert folder is not None
    assert (folder / "model.safetensors").read_text() == "first"


def test_a_version_without_a_card_is_refused_and_leaves_nothing(versions: Versions, tmp_path: Path) -> None:
    with pytest.raises(VersionError, match=r"model\.toml"):
        versions.publish(1, "1", lambda folder: None)
    assert list((tmp_path / "p1").iterdir()) == []


@pytest.mark.parametrize("name", ["../../etc", f"{BASE}-p1-9", f"{BASE}-p1-../x", "", f"{BASE}-p2-1"])
def test_what_does_not_exist_cannot_be_promoted(versions: Versions, name: str) -> None:
    versions.publish(2, "1", fill())
    with pytest.raises(VersionError, match=r"there is no version|another project"):
        versions.promote(1, name)


def test_a_version_whose_folder_is_gone_is_not_served(versions: Versions, tmp_path: Path) -> None:
    first, second = (versions.publish(1, str(k), fill()) for k in range(2))
    versions.promote(1, first)
    versions.promote(1, second)
    folder = versions.folder(second)
    assert folder is not None
    folder.rename(tmp_path / "elsewhere")
    assert Versions(tmp_path, BASE).current(1) == first


def test_a_folder_that_goes_while_it_serves_is_noticed_by_who_had_seen_it(versions: Versions, tmp_path: Path) -> None:
    name = versions.publish(1, "1", fill())
    versions.promote(1, name)
    assert versions.current(1) == name
    (tmp_path / "p1" / name).rename(tmp_path / "elsewhere")
    assert versions.current(1) == BASE


def test_a_folder_that_comes_back_serves_again(versions: Versions, tmp_path: Path) -> None:
    first, second = (versions.publish(1, str(k), fill()) for k in range(2))
    for name in (first, second):
        versions.promote(1, name)
    os.rename(tmp_path / "p1" / second, tmp_path / "away")
    assert versions.current(1) == first
    os.rename(tmp_path / "away", tmp_path / "p1" / second)
    assert versions.current(1) == second


def test_a_pointer_of_garbage_is_none(versions: Versions, tmp_path: Path) -> None:
    name = versions.publish(1, "1", fill())
    versions.promote(1, name)
    (tmp_path / "p1" / "current").write_bytes(b"\xff\xfe\n")
    assert versions.current(1) == BASE
    versions.promote(1, name)
    assert versions.rollback(1) == BASE


def test_a_change_that_was_meant_for_another_current_version_is_refused(versions: Versions) -> None:
    first, second, third = (versions.publish(1, str(k), fill()) for k in range(3))
    versions.promote(1, first)
    with pytest.raises(Overtaken, match=first):
        versions.promote(1, third, instead_of=(BASE, second))
    assert versions.current(1) == first
    assert versions.promote(1, third, instead_of=(first,)) == first
    assert versions.promote(1, third, instead_of=(first,)) == third, "done again after a crash"


def test_a_pointer_that_does_not_fit_on_the_disk_leaves_nothing(
    versions: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = versions.publish(1, "1", fill())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            versions.promote(1, name)
    assert versions.current(1) == BASE
    assert list((tmp_path / "p1").glob(".current-*")) == []
    (tmp_path / "p1" / ".current-abc").write_text("of a process that was killed")
    versions.publish(1, "2", fill())
    assert list((tmp_path / "p1").glob(".current-*")) == []


def test_another_model_has_its_own_versions(versions: Versions, tmp_path: Path) -> None:
    versions.promote(1, versions.publish(1, "1", fill()))
    assert Versions(tmp_path, "sam2.1-hiera-tiny-00000000").current(1) == "sam2.1-hiera-tiny-00000000"
    newer_base = Versions(tmp_path, "clicknet-ffffffff")
    assert newer_base.current(1) == f"{BASE}-p1-1"
    assert newer_base.rollback(1) == "clicknet-ffffffff"


def test_old_candidates_are_discarded_but_never_what_a_rollback_needs(versions: Versions) -> None:
    names = [versions.publish(1, str(k), fill()) for k in range(6)]
    versions.promote(1, names[0])
    versions.promote(1, names[3])
    assert versions.discard(1, keep=1) == (names[1], names[2], names[4])
    assert [v.name for v in versions.list(1)] == [names[0], names[3], names[5]]
    assert versions.rollback(1) == names[0]


PUBLISH = """
import sys
from pathlib import Path
from maskloop.learn.versions import Versions
versions = Versions(Path(sys.argv[1]), "clicknet-0a1b2c3d")
def fill(folder):
    (folder / "model.safetensors").write_bytes(b"x" * 3_000_000)
    (folder / "model.toml").write_text("family = 'clicknet'")
for k in range(100000):
    versions.promote(1, versions.publish(1, f"{sys.argv[2]}.{k}", fill))
"""


def test_a_kill_at_any_moment_leaves_only_whole_versions(versions: Versions, tmp_path: Path) -> None:
    for attempt in range(4):
        process = subprocess.Popen([sys.executable, "-c", PUBLISH, str(tmp_path), str(attempt)])
        while versions.current(1) == BASE or f"-p1-{attempt}." not in versions.current(1):
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(0.007 * attempt)
        process.send_signal(signal.SIGKILL)
        process.wait()
        fresh = Versions(tmp_path, BASE)
        assert {os.path.getsize(v.folder / "model.safetensors") for v in fresh.list(1)} == {3_000_000}
        assert fresh.folder(fresh.current(1)) is not None
