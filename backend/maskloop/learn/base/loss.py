"""The loss of one answer: normalised focal and soft IoU, a term at the edge, and the predicted IoU's own error."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def click_loss(
    logits: Tensor, judged: Tensor, truth: Tensor, valid: Tensor, band: Tensor, ambiguous: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean loss of a batch, and the true IoU of each mask (B x K).

    ``logits`` B x K x H x W, ``judged`` B x K (predicted IoU as logits); ``truth``, ``valid``
    and ``band`` (see :func:`edge_band`) B x 1 x H x W in {0, 1}; ``ambiguous`` B bool: where a
    prompt can mean several things, the best mask alone is taught; elsewhere all are.
    """
    masks, iou = mask_loss(logits, truth, valid, band, ambiguous)
    judging = functional.binary_cross_entropy_with_logits(judged, iou, reduction="none").mean(1)
    return (masks + 0.5 * judging).mean(), iou


def mask_loss(logits: Tensor, truth: Tensor, valid: Tensor, band: Tensor, ambiguous: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of the masks alone, B, and the true IoU of each, B x K; the arguments are :func:`click_loss`'s."""
    error = functional.binary_cross_entropy_with_logits(logits, truth.expand_as(logits), reduction="none")
    near = (error * band).sum((2, 3)) / (band.sum((2, 3)) + 1)
    each = normalised_focal(error, valid) + soft_iou(logits, truth, valid) + 0.4 * near
    masks = each.shape[1]
    best = functional.one_hot(each.argmin(1), masks).to(each.dtype)
    share = torch.where(ambiguous[:, None], 0.88 * best + 0.04, torch.full_like(each, 1.0 / masks))
    with torch.no_grad():
        iou = hard_iou(logits, truth, valid)
    return (each * share).sum(1), iou


def normalised_focal(error: Tensor, valid: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss whose pixel weights sum to one per mask (Sofiiuk et al. 2019), B x K; ``error`` is cross-entropy."""
    weight = (1 - torch.exp(-error.detach())) ** gamma * valid
    return (error * weight).sum((2, 3)) / (weight.sum((2, 3)) + 1e-3 * valid.sum((2, 3)) + 1e-6)


def soft_iou(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """1 - IoU of probabilities, B x K."""
    p = logits.sigmoid() * valid
    both = (p * truth).sum((2, 3))
    return 1 - (both + 1) / (p.sum((2, 3)) + (truth * valid).sum((2, 3)) - both + 1)


def edge_band(truth: Tensor, valid: Tensor, reach: int = 3) -> Tensor:
    """1 within ``reach`` pixels of the true outline, B x 1 x H x W."""
    return (_widest(truth, reach) + _widest(-truth, reach)) * valid


def _widest(values: Tensor, reach: int) -> Tensor:
    """The maximum of the square around each pixel: of its rows, then of their columns, which is a third of the work."""
    size = 2 * reach + 1
    rows = functional.max_pool2d(values, (1, size), 1, (0, reach))
    return functional.max_pool2d(rows, (size, 1), 1, (reach, 0))


def hard_iou(logits: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """IoU of the masks at threshold 0, B x K; 1 where both are empty."""
    mask = (logits > 0) & (valid > 0)
    wanted = (truth > 0) & (valid > 0)
    both = (mask & wanted).sum((2, 3)).float()
    either = (mask | wanted).sum((2, 3)).float()
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(either))
