from __future__ import annotations

import pytest
import torch

from maskloop.segment.card import ModelError
from maskloop.segment.catalog import Catalog
from maskloop.segment.device import device, device_or_cpu
from maskloop.settings import default_models_dir


def test_auto_is_a_gpu_or_else_the_cpu() -> None:
    assert device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "mps", ""])
def test_an_unknown_device_is_refused_with_the_setting(name: str) -> None:
    with pytest.raises(ModelError, match="MASKLOOP_DEVICE"):
        device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_a_model_is_not_loaded_onto_another_device_than_was_asked_for(name: str) -> None:
    with pytest.raises(ModelError, match="MASKLOOP_DEVICE"):
        Catalog(default_models_dir()).load("clicknet", name, 1)


def test_what_may_be_slow_runs_on_the_cpu_of_a_machine_without_the_gpu_that_others_have() -> None:
    assert device_or_cpu("cuda:99") == torch.device("cpu")
    assert device_or_cpu("auto") == device("auto")
