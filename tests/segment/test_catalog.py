from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskloop.segment import classical
from maskloop.segment.card import CARD, Card, ModelError, read_card, write_card
from maskloop.segment.catalog import Catalog
from maskloop.segment.prompt import Point, Prompt
from maskloop.segment.segmenter import Segmenter
from maskloop.settings import default_models_dir


def put(root: Path, name: str, family: str = "watershed", weights: bytes | None = None, **more: str) -> Path:
    files = {} if weights is None else {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    write_card(root / name, Card(name, family, "Apache-2.0", "a model", files=files, **more))
    if weights is not None:
        (root / name / "model.safetensors").write_bytes(weights)
    return root / name


def test_models_are_found_by_folder(tmp_path: Path) -> None:
    put(tmp_path, "b")
    put(tmp_path, "a")
    (tmp_path / "notes").mkdir()
    catalog = Catalog(tmp_path)
    assert catalog.names() == ["a", "b"]


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    put(tmp_path, "a")
    with pytest.raises(ModelError, match=r"no model '\.\./a'; known are a"):
        Catalog(tmp_path).card("../a")


def test_a_folder_must_bear_the_name_of_its_card(tmp_path: Path) -> None:
    put(tmp_path, "a").rename(tmp_path / "b")
    with pytest.raises(ModelError, match="make them the same"):
        Catalog(tmp_path).card("b")


def test_a_pulled_model_hides_the_one_that_came_along(tmp_path: Path) -> None:
    shipped, data = tmp_path / "shipped", tmp_path / "data"
    put(shipped, "a")
    put(data / "models", "a", weights=b"1")
    catalog = Catalog(shipped, data)
    assert catalog.names() == ["a"]
    assert catalog.folder("a") == data / "models" / "a"
    assert Catalog(shipped).folder("a") == shipped / "a"


def test_a_version_is_the_name_and_the_start_of_the_weights_hash(tmp_path: Path) -> None:
    put(tmp_path, "a", weights=b"weights")
    assert Catalog(tmp_path).version("a") == "a-" + hashlib.sha256(b"weights").hexdigest()[:8]


def test_a_version_follows_weights_whose_hash_is_not_on_the_card(tmp_path: Path) -> None:
    write_card(tmp_path / "a", Card("a", "watershed", "MIT", "d", files={"model.safetensors": ""}))
    catalog = Catalog(tmp_path)
    with pytest.raises(ModelError, match="is missing"):
        catalog.version("a")
    versions = set()
    for weights in (b"one", b"other"):
        (tmp_path / "a" / "model.safetensors").write_bytes(weights)
        versions.add(catalog.version("a"))
    assert len(versions) == 2


def test_an_engine_without_weights_has_a_version_too(tmp_path: Path) -> None:
    put(tmp_path, "a")
    catalog = Catalog(tmp_path)
    first = catalog.version("a")
    assert first == catalog.version("a")
    assert first.startswith("a-")
    put(tmp_path, "a", source="changed")
    assert catalog.version("a") != first


def test_missing_or_changed_weights_are_refused_before_loading(tmp_path: Path) -> None:
    folder = put(tmp_path, "a", weights=b"weights")
    catalog = Catalog(tmp_path)
    assert catalog.available("a")
    (folder / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(ModelError, match="sha256 differs"):
        catalog.load("a")
    (folder / "model.safetensors").unlink()
    assert not catalog.available("a")
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        catalog.load("a")


def test_a_model_is_found_only_with_what_it_is_based_on(tmp_path: Path) -> None:
    base = put(tmp_path, "a", weights=b"weights")
    put(tmp_path, "b", weights=b"decoder", base="a")
    Catalog(tmp_path).find("b")
    (base / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="model a has no weights"):
        Catalog(tmp_path).find("b")


@pytest.mark.parametrize("family", ["nonsense", "prompt", "os.path", "../x"])
def test_an_unknown_family_is_refused(tmp_path: Path, family: str) -> None:
    put(tmp_path, "a", family=family)
    with pytest.raises(ModelError, match="no family"):
        Catalog(tmp_path).load("a")


def test_any_folder_of_the_same_kind_can_be_loaded(tmp_path: Path) -> None:
    folder = put(tmp_path / "versions", "watershed-0001")
    segmenter = Catalog(tmp_path / "models").load(folder)
    embedding = segmenter.encode(np.full((20, 30, 3), 128, np.uint8))
    assert segmenter.decode(embedding, Prompt((Point(15, 10),))).mask[10, 15]


def test_the_base_of_a_retrained_version_must_be_whole(tmp_path: Path) -> None:
    base = put(tmp_path / "models", "a", weights=b"weights")
    folder = put(tmp_path / "versions", "a-2", base="a")
    catalog = Catalog(tmp_path / "models")
    assert catalog.load(folder).name == "a-2"
    (base / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        catalog.load(folder)


def test_every_model_that_comes_along_has_a_good_card() -> None:
    catalog = Catalog(default_models_dir())
    for name in catalog.names():
        card = catalog.card(name)
        assert all(name.endswith((".safetensors", ".json")) for name in card.files)
        if not card.files:
            assert catalog.load(card.name).name == card.name


def test_names_and_versions_need_no_torch(tmp_path: Path) -> None:
    put(tmp_path, "a", weights=b"weights")
    code = (
        "import sys; from pathlib import Path; from maskloop.segment.catalog import Catalog; "
        "from maskloop.segment.embeddings import EmbeddingCache; "
        f"print(Catalog(Path({str(tmp_path)!r})).version('a'), 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out == [Catalog(tmp_path).version("a"), "False", "False"]


def test_the_folder_of_models_is_there() -> None:
    assert (default_models_dir() / "watershed" / CARD).is_file()


def test_the_documented_example_of_a_new_family_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[2] / "docs" / "adding-a-model.md"
    module, card = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)[0], ""
    for card in re.findall(r"```toml\n(.*?)```", page.read_text(), re.S):
        (tmp_path / "x").mkdir(exist_ok=True)
        (tmp_path / "x" / CARD).write_text(card)
        read_card(tmp_path / "x")
    (tmp_path / "families").mkdir()
    (tmp_path / "families" / "alike.py").write_text(module)
    (tmp_path / "models" / "alike").mkdir(parents=True)
    (tmp_path / "models" / "alike" / CARD).write_text(card)
    monkeypatch.setattr(classical, "__path__", [*classical.__path__, str(tmp_path / "families")])
    segmenter = Catalog(tmp_path / "models").load("alike")
    assert isinstance(segmenter, Segmenter)
    image = np.zeros((20, 30, 3), np.uint8)
    image[5:10, 5:10] = 200
    answer = segmenter.decode(segmenter.encode(image), Prompt((Point(7, 7),)))
    np.testing.assert_array_equal(answer.mask, image[..., 0] > 0)
    corner = segmenter.decode(segmenter.encode(image), Prompt((Point(30, 20),)))
    np.testing.assert_array_equal(corner.mask, image[..., 0] == 0)
    monkeypatch.delitem(sys.modules, "maskloop.segment.classical.alike")
