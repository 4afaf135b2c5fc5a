"""The network of clicknet: an encoder that sees a view once, a decoder that answers every click on it.

A *view* is an image or a crop of it, resized to H x W with H and W of the form 16 k + 1.
For training from elsewhere: ``net.encoder(normalised(pixels))`` gives the features of a
batch of views, ``net.decoder(features, prompts)`` the logits of three masks and their
predicted IoUs (logits), and :func:`maskloop.learn.base.loss.click_loss` the loss of both.
Tensors are named ``encoder.*`` and ``decoder.*``; only the first decide an embedding.
"""

from __future__ import annotations

from torch import Tensor, nn

from maskloop.segment.clicknet_decoder import Decoder, PromptMaps
from maskloop.segment.clicknet_encoder import Encoder, normalised


class ClickNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()

    def forward(self, pixels: Tensor, prompts: PromptMaps) -> tuple[Tensor, Tensor]:
        """B x H x W x 3 uint8 and prompts to (logits B x 3 x H x W, predicted IoU as logits B x 3)."""
        result: tuple[Tensor, Tensor] = self.decoder(self.encoder(normalised(pixels)), prompts)
        return result
