"""``clicknet``, the embedded default model: the network as a Segmenter for images of any size.

A first click looks at the whole image, then again at a window around what it found
(the zoom-in of RITM and FocalClick); later clicks look at the window, with the previous mask
fed back. What says more than one click is looked at both ways, as it is and mirrored. The answer
to n clicks is defined from the answer to the first n - 1, so any process gives the same one; what
is still in memory is not computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from maskloop.segment.card import ModelError, labels_of, read_card
from maskloop.segment.catalog import Source
from maskloop.segment.clicknet_decoder import PromptMaps
from maskloop.segment.clicknet_encoder import normalised
from maskloop.segment.clicknet_net import AHEAD, DOUBT, ClickNetwork, network_of
from maskloop.segment.clicknet_state import (
    LEAST_WINDOW,
    MARGIN,
    Features,
    Look,
    State,
    cut_off,
    generous,
    next_window,
    relevant,
    stacked,
)
from maskloop.segment.clicknet_view import Map, Window, around, bounds, carried, cut, moved, reduced, resized, spread
from maskloop.segment.device import device
from maskloop.segment.familiarity import Familiarity, signature
from maskloop.segment.memory import ANSWERS, FEATURES
from maskloop.segment.postprocess import clean
from maskloop.segment.prompt import Box, Image, Mask, Prompt
from maskloop.segment.segmenter import Embedding, Prediction
from maskloop.segment.together import alone, in_step

T = TypeVar("T")
Way: TypeAlias = Generator[Look, tuple[Map, float], T]

COARSE = 257
"""Longer side of the view of the whole image."""
ZOOM = 257
"""Longer side of the view of a window."""
KEPT = 2048
"""Longer side of the pixels kept for windows; a larger image is reduced to it."""


class ClickNet:
    """The network behind the Segmenter interface. Safe to use from several threads."""

    def __init__(
        self, network: ClickNetwork, name: str, device: torch.device | None = None, labels: Collection[str] = ()
    ) -> None:
        """``labels`` are those of the objects that the network's second decoder learned."""
        self.name = name
        self.device = device or torch.device("cpu")
        self.network = network.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.encoder = encoder_hash(network)
        self._labels = frozenset(labels)
        self._familiarity = None if network.known is None else Familiarity(list(network.known.cpu().numpy()))
        self._own = object()  # marks its answers; features of a window serve every network with its encoder

    def encode(self, image: Image) -> Embedding:
        """The embedding of an image: features of the whole in float16, and its pixels, reduced to KEPT at most."""
        height, width = image.shape[:2]
        scale = min(1.0, KEPT / max(height, width))
        pixels = image
        if scale < 1:
            small = (max(1, round(width * scale)), max(1, round(height * scale)))
            pixels = cv2.resize(image, small, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        features = self.features(cut(pixels, Window.whole(pixels.shape), COARSE))
        arrays = {name: f[0].to("cpu", torch.float16).numpy() for name, f in features.items()}
        return Embedding({"pixels": np.ascontiguousarray(pixels), **arrays}, (height, width), self.encoder)

    def decode(self, embedding: Embedding, prompt: Prompt) -> Prediction:
        """The mask for a prompt. Raises ValueError if the embedding is another encoder's or the prompt is empty.

        A prompt that does not say where the object is gets an empty mask.
        """
        return alone(self._decoded(embedding, prompt), self.answers)

    def decode_all(self, asked: Sequence[tuple[Embedding, Prompt]]) -> list[Prediction | Exception]:
        """What :meth:`decode` answers or raises for each, views of one size in one pass."""
        return in_step([self._decoded(embedding, prompt) for embedding, prompt in asked], self.answers)

    def _decoded(self, embedding: Embedding, prompt: Prompt) -> Way[Prediction]:
        if embedding.encoder != self.encoder:
            raise ValueError(f"the embedding was made by encoder {embedding.encoder}, {self.name} has {self.encoder}")
        if prompt.empty:
            raise ValueError("an empty prompt has no mask: give a click, a box, a stroke or a mask to start from")
        if not prompt.pointing:
            return Prediction(np.zeros(embedding.size, bool), 0.0)
        height, width = embedding.arrays["pixels"].shape[:2]
        scale = (embedding.size[1] / width, embedding.size[0] / height)
        state = yield from self._state(embedding, reduced(prompt, scale, (height, width)))
        mask = spread(state.logits, state.window, scale, embedding.size)
        return Prediction(clean(mask, prompt), state.score)

    def closer(self, embedding: Embedding, part: Box) -> Mapping[str, NDArray[np.generic]]:
        """The features of a part of the image, looked at as closely as the whole is in its embedding."""
        pixels: Image = embedding.arrays["pixels"]  # type: ignore[assignment]
        down, across = pixels.shape[0] / embedding.size[0], pixels.shape[1] / embedding.size[1]
        edges = (part.x0 * across, part.y0 * down, part.x1 * across, part.y1 * down)
        window = Window(*(round(edge) for edge in edges))
        features = self.features(cut(pixels, window, ZOOM))
        return {name: f[0].to("cpu", torch.float16).numpy() for name, f in features.items()}

    @torch.inference_mode()
    def features(self, view: Image) -> Features:
        """The encoder's features of one view, H x W x 3 uint8, as a batch of one."""
        features: Features = self.network.encoder(normalised(torch.from_numpy(view[None]).to(self.device)))
        return features

    @torch.inference_mode()
    def answers(self, looks: Sequence[Look]) -> list[tuple[Map, float]]:
        """For each look the mask judged best, as logits H x W that are positive inside, and its predicted IoU."""
        every = stacked(looks)
        prompts = PromptMaps(*(maps.to(self.device) for maps in every.prompts.parts()))
        logits, judged = self.network.decode(every.features, prompts, every.ahead)
        found = []
        for look, masks, scores in zip(looks, logits, judged.sigmoid(), strict=True):
            best = int(scores.argmax())
            chosen, score = masks[best].float().cpu().numpy(), float(scores[best])
            # A copy: a part of the pass would keep all of it in memory.
            found.append((chosen.copy() if look.corrects else generous(chosen, score), score))
        return found

    def _state(self, embedding: Embedding, prompt: Prompt) -> Way[State]:
        """The answer to a prompt, from the answer to the same prompt with one click less, and so on."""
        state: State | None = None
        unknown: list[tuple[str, Prompt]] = []
        least = 0 if prompt.box is not None or prompt.scribbles or not prompt.points else 1
        for count in range(len(prompt.points), least - 1, -1):
            part = replace(prompt, points=prompt.points[:count])
            if unknown and not part.pointing:
                break
            key = part.digest()
            state = ANSWERS.recall(embedding, (self._own, key))
            if state is not None:
                break
            unknown.append((key, part))
        if state is None and prompt.prior is not None:
            state = _started(prompt.prior)
        for key, part in reversed(unknown):
            state = yield from self._answered(embedding, part, state)
            ANSWERS.keep(embedding, (self._own, key), state, state.logits.nbytes)
        assert state is not None
        return state

    def _answered(self, embedding: Embedding, prompt: Prompt, earlier: State | None) -> Way[State]:
        size: tuple[int, int] = embedding.arrays["pixels"].shape[:2]  # type: ignore[assignment]
        whole = Window.whole(size)
        last = prompt.points[-1] if prompt.points else None
        if earlier is None and prompt.box is not None:
            box = prompt.box
            window = around(box.x0, box.y0, box.x1, box.y1, MARGIN, LEAST_WINDOW, size)
        else:
            if earlier is None or (last is not None and not earlier.window.holds(last.x, last.y, last.x, last.y)):
                earlier = yield from self._seen(embedding, whole, prompt, earlier)
            window = next_window(prompt, earlier, size)
        state = yield from self._seen(embedding, window, prompt, earlier)
        wider = next_window(prompt, state, size)
        if cut_off(state, size) and wider != state.window and not window.holds(wider.x0, wider.y0, wider.x1, wider.y1):
            state = yield from self._seen(embedding, wider, prompt, state)
        return state

    def _seen(self, embedding: Embedding, window: Window, prompt: Prompt, earlier: State | None) -> Way[State]:
        """One look at a window with everything known so far."""
        features = self._view(embedding, window)
        if not prompt.ambiguous:
            mirrored = self._view(embedding, window, mirrored=True)
            features = {name: torch.cat([seen, mirrored[name]]) for name, seen in features.items()}
        view = window.view_size(COARSE if window == Window.whole(embedding.arrays["pixels"].shape) else ZOOM)
        previous = None
        if earlier is not None:
            probability = 1 / (1 + np.exp(-earlier.logits))
            previous = moved(probability.astype(np.float32), earlier.window, window, view)
        logits, score = yield Look(features, carried(window, view, prompt, previous), self._ahead(embedding, prompt))
        return State(relevant(logits, window, prompt), window, score)

    def _view(self, embedding: Embedding, window: Window, mirrored: bool = False) -> Features:
        """The features of a window, or of its mirror image. Those of the whole image are in the embedding."""
        pixels: Image = embedding.arrays["pixels"]  # type: ignore[assignment]
        whole = window == Window.whole(pixels.shape)
        if whole and not mirrored:
            arrays = ((n, a) for n, a in embedding.arrays.items() if n != "pixels")
            kept = {n: torch.from_numpy(a.astype(np.float32))[None].to(self.device) for n, a in arrays}
            return {n: f.contiguous(memory_format=torch.channels_last) for n, f in kept.items()}
        features: Features | None = FEATURES.recall(embedding, (window, mirrored, self.device))
        if features is None:
            view = cut(pixels, window, COARSE if whole else ZOOM)
            features = self.features(np.ascontiguousarray(view[:, ::-1]) if mirrored else view)
            nbytes = sum(f.numel() * f.element_size() for f in features.values())
            FEATURES.keep(embedding, (window, mirrored, self.device), features, nbytes)
        return features

    def _ahead(self, embedding: Embedding, prompt: Prompt) -> float | None:
        """How far what was learned is preferred to the base: on an image unlike those it learned on it has no say."""
        if self._familiarity is not None and not self._familiarity.knows(signature(embedding)):
            return None
        return AHEAD if prompt.label in self._labels else -DOUBT


def load(source: Source) -> ClickNet:
    """The model of a folder; tensors that it lacks come from the folder it is based on. Raises ModelError."""
    tensors: dict[str, torch.Tensor] = {}
    for folder in (source.base, source.folder):
        if folder is not None:
            card = source.card if folder is source.folder else read_card(folder)
            for name in card.weights:
                tensors |= load_file(folder / name)
    try:
        network = network_of(tensors)
    except RuntimeError as error:
        raise ModelError(f"{source.folder}: the weights are not those of a clicknet: {error}") from None
    if source.threads:
        torch.set_num_threads(source.threads)
    return ClickNet(network, source.card.name, device(source.device), labels_of(source.card))


def encoder_hash(network: ClickNetwork) -> str:
    """16 hex digits for everything that decides an embedding; the decoder has no part in it."""
    digest = hashlib.sha256(f"{COARSE} {KEPT}".encode())
    for name, tensor in sorted(network.encoder.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _started(prior: Mask) -> State:
    """A mask from elsewhere as the answer to start from."""
    found = bounds(prior)
    size = (prior.shape[0], prior.shape[1])
    window = Window.whole(size) if found is None else around(*found, MARGIN, LEAST_WINDOW, size)
    part = prior[window.y0 : window.y1, window.x0 : window.x1].astype(np.float32)
    return State(resized(part, window.view_size(ZOOM)) * 12 - 6, window, 0.0)
