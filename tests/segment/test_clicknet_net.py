from __future__ import annotations

import pytest
import torch

from maskloop.segment.clicknet_decoder import PromptMaps
from maskloop.segment.clicknet_encoder import normalised
from maskloop.segment.clicknet_net import AHEAD, DOUBT, ClickNetwork, both_ways, side_by_side


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
    logits, judged = side_by_side(decoder(first, 0.0), decoder(learned, 1.0), {"f2": given}, prompts, ahead)
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
    return side_by_side(first, learned, {"f2": given}, prompts, -DOUBT)[0][0, 0]


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
        return side_by_side(Recalls(0, part), Recalls(1, part), {"f2": given}, prompts, -DOUBT)

    for whole, alone in zip(
        asked(slice(5)), zip(*(asked(slice(n, n + 1)) for n in range(5)), strict=True), strict=True
    ):
        assert torch.equal(whole, torch.cat(alone))


def test_left_and_right_are_all_the_same_to_it() -> None:
    torch.manual_seed(0)
    network = ClickNetwork(learned=True).eval()
    views = torch.randint(0, 256, (2, 65, 81, 3), dtype=torch.uint8)
    box, strokes, mask = (torch.rand(2, n, 65, 81) for n in (1, 2, 1))
    points = torch.tensor([[[7.0, 20.0, 1.0], [70.0, 40.0, 0.0]], [[33.0, 60.0, 1.0], [0.0, 0.0, -1.0]]])
    mirrored = torch.where(
        points[..., 2:] < 0, points, torch.tensor([80.0, 0.0, 0.0]) - points * torch.tensor([1, -1, -1])
    )
    prompts = PromptMaps(points, box, (strokes > 0.9).float(), mask)
    turned = PromptMaps(mirrored, *(maps.flip(3) for maps in prompts.parts()[1:]))

    def features(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        return network.encoder(normalised(torch.stack([pixels, pixels.flip(2)], 1).flatten(0, 1)))

    with torch.inference_mode():
        for ahead in (None, AHEAD):
            logits, judged = network.decode(features(views), prompts, ahead)
            mirror, also = network.decode(features(views.flip(2)), turned, ahead)
            assert logits.shape == (2, 3, 65, 81)
            assert torch.allclose(mirror.flip(3), logits, atol=1e-4)
            assert torch.allclose(also, judged, atol=1e-4)
        plain = network.decoder(network.encoder(normalised(views)), prompts)
        assert not torch.allclose(plain[0], both_ways(network.decoder, features(views), prompts)[0], atol=1e-3)
