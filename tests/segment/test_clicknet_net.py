from __future__ import annotations

import pytest
import torch

from maskloop.segment.clicknet_decoder import PromptMaps
from maskloop.segment.clicknet_net import AHEAD, DOUBT, side_by_side


def surer(
    first: list[float], learned: list[float], previous: float = 0.0, ahead: float = -DOUBT
) -> tuple[bool, list[float]]:
    """Whether what was learned is chosen, and the predicted IoUs, for two decoders that are so sure of their masks.

    ``previous`` is the probability of the mask so far.
    """

    def decoder(sure: list[float], value: float) -> torch.nn.Module:
        class Stub(torch.nn.Module):
            def forward(self, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
                return torch.full((1, len(sure), 2, 2), value), torch.tensor([sure]).logit()

        return Stub()

    given = torch.zeros(1, 1, 2, 2)
    prompts = PromptMaps(torch.zeros(1, 1, 3), given, given.expand(-1, 2, -1, -1), given + previous)
    logits, judged = side_by_side(decoder(first, 0.0), decoder(learned, 1.0), {}, prompts, ahead)
    return bool(logits[0, 0, 0, 0] == 1), [round(float(j), 3) for j in judged[0].sigmoid()]


def test_the_surer_of_two_decoders_answers_with_its_own_masks() -> None:
    assert surer([0.5, 0.7, 0.2], [0.8, 0.3, 0.1]) == (True, [0.8, 0.3, 0.1])
    assert surer([0.5, 0.7, 0.2], [0.6, 0.3, 0.1]) == (False, [0.5, 0.7, 0.2])
    assert not surer([0.70, 0.1, 0.1], [0.71, 0.1, 0.1])[0], "what was learned has to be surer by a little"


def test_a_label_that_was_learned_needs_less_certainty() -> None:
    assert surer([0.8, 0.1, 0.1], [0.75, 0.1, 0.1], ahead=AHEAD)[0]
    assert not surer([0.8, 0.1, 0.1], [0.75, 0.1, 0.1])[0]
    assert not surer([0.8, 0.1, 0.1], [0.6, 0.1, 0.1], ahead=AHEAD)[0], "an object the base knows far better"


def test_a_base_that_is_quite_sure_of_another_thing_gives_way_to_what_was_learned() -> None:
    assert surer([0.1, 0.999, 0.1], [0.95, 0.3, 0.1])[0]
    assert not surer([0.1, 0.999, 0.1], [0.85, 0.3, 0.1])[0], "the familiar is known with more certainty"
    assert not surer([0.1, 0.999, 0.1], [0.95, 0.3, 0.1], previous=0.9)[0], "a mask to correct says what is meant"


class Sees(torch.nn.Module):
    """A decoder whose only mask is given, H x W, with how sure it is of it."""

    def __init__(self, mask: torch.Tensor, sure: float) -> None:
        super().__init__()
        self.answer = mask[None, None], torch.tensor([[sure]]).logit()

    def forward(self, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        return self.answer


def together(first: Sees, learned: Sees) -> torch.Tensor:
    given = torch.zeros(1, 1, *first.answer[0].shape[2:])
    prompts = PromptMaps(torch.zeros(1, 1, 3), given, given.expand(-1, 2, -1, -1), given)
    return side_by_side(first, learned, {}, prompts, -DOUBT)[0][0, 0]


def rows(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None].expand(-1, 4).contiguous()


def test_where_both_mean_the_same_object_the_weighted_mean_answers() -> None:
    one, other = rows(4, 4, 4, -1), rows(4, 4, 4, 2)
    mean = together(Sees(one, 0.8), Sees(other, 0.9))
    share = float((mean[3, 0] + 1) / 3)
    assert 0.5 < share < 1, "the surer counts for more, but not alone"
    assert torch.allclose(mean, torch.lerp(one, other, share), atol=1e-5)
    assert float(together(Sees(one, 0.9), Sees(other, 0.8))[3, 0]) < float(mean[3, 0])
    assert float(together(Sees(one, 0.5), Sees(other, 0.99))[3, 0]) == pytest.approx(2, abs=0.05)


def test_where_they_mean_different_objects_the_surer_answers_alone() -> None:
    one, other = rows(4, 4, -4, -4), rows(-4, -4, 4, 4)
    assert torch.equal(together(Sees(one, 0.8), Sees(other, 0.9)), other)
    assert torch.equal(together(Sees(one, 0.9), Sees(other, 0.8)), one)


def test_each_of_a_batch_is_answered_as_if_it_were_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    masks, sure = torch.randn(2, 5, 3, 6, 7, generator=generator), torch.randn(2, 5, 3, generator=generator)

    class Recalls(torch.nn.Module):
        def __init__(self, which: int, part: slice) -> None:
            super().__init__()
            self.answer = masks[which, part] + 1, sure[which, part]

        def forward(self, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
            return self.answer

    def asked(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        given = torch.zeros(len(range(5)[part]), 1, 6, 7)
        prompts = PromptMaps(torch.zeros(len(given), 1, 3), given, given.expand(-1, 2, -1, -1), given)
        return side_by_side(Recalls(0, part), Recalls(1, part), {}, prompts, -DOUBT)

    for whole, alone in zip(
        asked(slice(5)), zip(*(asked(slice(n, n + 1)) for n in range(5)), strict=True), strict=True
    ):
        assert torch.equal(whole, torch.cat(alone))
