"""The network of clicknet: an encoder that sees a view once, a decoder that answers every click on it.

A *view* is an image or a crop of it, resized to H x W with H and W of the form 16 k + 1.
For training from elsewhere: ``net.encoder(normalised(pixels))`` gives the features of a
batch of views, ``net.decoder(features, prompts)`` the logits of three masks and their
predicted IoUs (logits), and :func:`maskloop.learn.base.loss.click_loss` the loss of both.
Tensors are named ``encoder.*`` and ``decoder.*``, and ``learned.*`` where a version has a second decoder that
learned a project's objects, with ``known``, the signatures of the images it learned them on; only the first decide an
embedding.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from maskloop.segment.clicknet_decoder import Decoder, PromptMaps
from maskloop.segment.clicknet_encoder import Encoder, normalised

AHEAD = 0.5
"""How much less sure (logits of the predicted IoU) what was learned may be of an object with a label it learned: the
base is quite sure of masks that a project would not take."""
DOUBT = 0.15
"""How much surer it has to be of an object with any other label."""
SURE = 2.2
"""As a logit, a predicted IoU of 0.9: at a first look, so sure is sure enough."""

SAME = 0.5
"""Overlap (IoU) of two masks above which they mean the same object."""
SHARPNESS = 8.0
"""How fast the weight of a decoder in the mean of both grows with its lead (logits of the predicted IoU)."""


class ClickNetwork(nn.Module):
    """``learned`` is a decoder beside the first one, for a retrained version; None without.

    ``known`` are the signatures of the images it learned on, N x D; None where nothing was learned.
    """

    known: Tensor | None

    def __init__(self, learned: bool = False, known: Tensor | None = None) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.learned = Decoder() if learned else None
        self.register_buffer("known", known)

    def decode(
        self, features: dict[str, Tensor], prompts: PromptMaps, ahead: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """Masks, and how they are judged: (logits B x K x H x W, predicted IoU as logits B x K).

        ``ahead`` is :func:`side_by_side`'s; None leaves the answer to the first decoder.
        """
        if self.learned is None or ahead is None:
            return both_ways(self.decoder, features, prompts)
        return side_by_side(self.decoder, self.learned, features, prompts, ahead)

    def forward(self, pixels: Tensor, prompts: PromptMaps) -> tuple[Tensor, Tensor]:
        """B x H x W x 3 uint8 and prompts to (logits B x 3 x H x W, predicted IoU as logits B x 3)."""
        result: tuple[Tensor, Tensor] = self.decoder(self.encoder(normalised(pixels)), prompts)
        return result


def network_of(tensors: Mapping[str, Tensor]) -> ClickNetwork:
    """The network that has these tensors, in single precision. Raises RuntimeError when they are not a clicknet's."""
    learned = any(name.startswith("learned.") for name in tensors)
    network = ClickNetwork(learned, tensors.get("known"))
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return network


def side_by_side(
    first: nn.Module, learned: nn.Module, features: dict[str, Tensor], prompts: PromptMaps, ahead: float
) -> tuple[Tensor, Tensor]:
    """The masks of whichever of two decoders is surer of its best one, and its predicted IoUs as logits.

    ``ahead`` (logits) is added to how sure the learned one is.
    A decoder that learned some objects is unsure about everything else, where the first one still knows. At a look that
    begins from nothing, how sure the first one is counts up to SURE only: it may be quite sure of the whole where a
    project means a part. Once there is a mask to correct, both know what is meant. Where the best masks of both mean
    the same object, their mean, weighted by how sure each is, takes the place of the surer one's: two that err
    differently err less together.
    """
    logits, judged = both_ways(first, features, prompts)
    more, also = both_ways(learned, features, prompts)
    started = prompts.previous.amax((1, 2, 3)) > 0.5
    best = judged.amax(1)
    lead = also.amax(1) + ahead - torch.where(started, best, best.clamp(max=SURE))
    surer = lead > 0
    masks = torch.where(surer[:, None, None, None], more, logits)
    scores = torch.where(surer[:, None], also, judged)
    every = torch.arange(len(masks), device=masks.device)
    one, other = logits[every, judged.argmax(1)], more[every, also.argmax(1)]
    both, either = (one > 0) & (other > 0), (one > 0) | (other > 0)
    agree = both.sum((1, 2)) > SAME * either.sum((1, 2))
    share = torch.sigmoid(SHARPNESS * lead).to(one.dtype)
    mean = torch.lerp(one, other, share[:, None, None])
    chosen = scores.argmax(1)
    masks[every, chosen] = torch.where(agree[:, None, None], mean, masks[every, chosen])
    return masks, scores


def both_ways(decoder: nn.Module, features: dict[str, Tensor], prompts: PromptMaps) -> tuple[Tensor, Tensor]:
    """A decoder's answer; the mean of its answers to a view and to the view's mirror image where it is given both.

    ``features`` has one entry for each of the ``prompts``, or two: the view's, and then its mirror image's.
    """
    if len(features["f2"]) == len(prompts.points):
        answer: tuple[Tensor, Tensor] = decoder(features, prompts)
        return answer
    logits, judged = (both.unflatten(0, (-1, 2)) for both in decoder(features, prompts.with_mirrored()))
    return (logits[:, 0] + logits[:, 1].flip(3)) / 2, judged.mean(1)
