from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from maskloop.learn.clicknet_lessons import ClicknetLessons
from maskloop.learn.network import load_network, save_version
from maskloop.segment.card import check_files, labels_of, read_card
from maskloop.settings import default_models_dir

SHIPPED = default_models_dir() / "clicknet"


def test_a_version_keeps_the_first_decoder_beside_what_was_learned_and_is_taught_on_from_there(tmp_path: Path) -> None:
    base = load_network(SHIPPED)
    assert base.learned is None
    taught = {name: value.detach() + 1 for name, value in base.decoder.named_parameters()}
    save_version(SHIPPED, taught, tmp_path, "taught")
    check_files(tmp_path, read_card(tmp_path))
    version = load_network(tmp_path)
    assert version.learned is not None
    for name, value in version.decoder.named_parameters():
        assert torch.equal(value, base.decoder.get_parameter(name))
        assert torch.allclose(version.learned.get_parameter(name), taught[name], atol=2e-3)
    assert ClicknetLessons(version, base, [], []).start is version.learned
    again = tmp_path / "again"
    again.mkdir()
    save_version(tmp_path, dict(base.decoder.named_parameters()), again, "taught again")
    second = load_network(again)
    assert second.learned is not None
    assert torch.equal(second.learned.masks.weight, base.decoder.masks.weight)


def test_a_version_says_which_images_and_labels_it_learned(tmp_path: Path) -> None:
    taught = dict(load_network(SHIPPED).decoder.named_parameters())
    known = [np.eye(4, dtype=np.float32)[k] for k in (0, 2)]
    save_version(SHIPPED, taught, tmp_path, "taught", known, ["car", 'a "label"'])
    found = load_network(tmp_path).known
    assert found is not None
    np.testing.assert_array_equal(found.numpy(), np.stack(known))
    assert labels_of(read_card(tmp_path)) == ("car", 'a "label"')
    assert load_network(SHIPPED).known is None
    assert labels_of(read_card(SHIPPED)) == ()
