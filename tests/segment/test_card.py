from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskloop.segment.card import CARD, Card, ModelError, check_files, labels_of, read_card, write_card

GOOD = 'name = "a"\nfamily = "b"\nlicence = "MIT"\ndescription = "d"\n'


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    card = Card(
        name="net-1.0",
        family="net",
        licence="Apache-2.0",
        description='says "hi"\nand \\ and \x7f',
        source="owner/repository",
        revision="abc",
        base="clicknet",
        files={"model.safetensors": "0" * 64, "config.json": ""},
        metrics={"noc85": 4.5, "clicks": 3},
        options={"side": 1024, "bf16": True, "kind": "x"},
    )
    write_card(tmp_path, card)
    assert read_card(tmp_path) == card
    assert read_card(tmp_path).weights == ("model.safetensors",)
    assert [path.name for path in tmp_path.iterdir()] == [CARD]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("card")
    write_card(folder, Card("a", "b", "MIT", text))
    assert read_card(folder).description == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "not TOML"),
        (GOOD + 'licenze = "x"', "unknown key 'licenze'"),
        (GOOD.replace('"MIT"', '""'), "licence must be a text"),
        (GOOD.replace('"a"', "3"), "name must be a text"),
        (GOOD.replace('"a"', '"../a"'), "lower-case letters"),
        (GOOD + 'base = "A B"', "lower-case letters"),
        (GOOD + "files = 3", "must be a table"),
        (GOOD + '[files]\n"../x.safetensors" = ""', "plain file name"),
        (GOOD + '[files]\n"model.toml" = ""', "not model.toml"),
        (GOOD + '[files]\n".cache" = ""', "not hidden"),
        (GOOD + '[files]\n"x.safetensors" = "12"', "64 hex digits"),
        (GOOD + "[metrics]\nbest = true", "best must be a number"),
        (GOOD + "[options]\nsides = [1, 2]", "sides must be"),
    ],
)
def test_a_wrong_card_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / CARD).write_text(text)
    with pytest.raises(ModelError, match=says) as caught:
        read_card(tmp_path)
    assert str(tmp_path / CARD) in str(caught.value)


def test_a_folder_without_a_card_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a model"):
        read_card(tmp_path)


def test_files_are_checked_against_the_card(tmp_path: Path) -> None:
    content = b"weights"
    digest = hashlib.sha256(content).hexdigest()
    card = Card("a", "b", "MIT", "d", files={"model.safetensors": digest})
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        check_files(tmp_path, card)
    (tmp_path / "model.safetensors").write_bytes(content)
    check_files(tmp_path, card)
    (tmp_path / "model.safetensors").write_bytes(content + b"!")
    with pytest.raises(ModelError, match="sha256 differs"):
        check_files(tmp_path, card)


@pytest.mark.parametrize("labels", ["car", '{"car": 1}', "3"])
def test_labels_that_are_no_list_are_refused(labels: str) -> None:
    with pytest.raises(ModelError, match="labels must be a JSON list"):
        labels_of(Card("learned", "clicknet", "MIT", "taught", options={"labels": labels}))
