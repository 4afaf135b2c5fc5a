"""The SAM family as segmenters: SAM, SAM-HQ, SAM 2 and whatever else has their architecture.

The image is encoded once; a click runs the light decoder, which gets its own answer to the
clicks before as a mask to start from. That answer follows from the prompt alone: it is
remembered while there is room, and worked out again where it is not.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from maskloop.segment.card import ModelError, read_card, sha256
from maskloop.segment.catalog import Source
from maskloop.segment.device import device, half_precision
from maskloop.segment.memory import ANSWERS
from maskloop.segment.postprocess import clean
from maskloop.segment.prompt import Image, Point, Prompt
from maskloop.segment.sam_net import SamNet, read_net
from maskloop.segment.sam_prompt import Frame, along, around
from maskloop.segment.segmenter import Embedding, Prediction
from maskloop.segment.together import alone, in_step

DECODER = "decoder.safetensors"
"""The weights file of a version that was retrained on a base model."""
WEIGHTS = "model.safetensors"
TAUGHT_ON = "taught_on"
"""The option of a version's card with the sha256 of the base weights it was retrained on."""


@dataclass(frozen=True)
class Answer:
    """Logits low x low, float16, and the predicted IoU."""

    logits: NDArray[np.float16]
    score: float


T = TypeVar("T")
Way: TypeAlias = Generator["Question", Answer, T]


@dataclass(frozen=True, eq=False)
class Question:
    """What the net is asked, as its arguments: batches of one, or of several of one form."""

    features: dict[str, Tensor]
    points: Tensor | None
    labels: Tensor | None
    boxes: Tensor | None
    masks: Tensor | None

    @property
    def shape(self) -> tuple[int, bool, bool]:
        """How many points, and whether there are a box and a mask."""
        return 0 if self.points is None else self.points.shape[1], self.boxes is not None, self.masks is not None

    @property
    def open(self) -> bool:
        """One click alone leaves open whether a part or the whole is meant: the net answers three masks."""
        return self.shape == (1, False, False)


def stacked(questions: Sequence[Question]) -> Question:
    """Questions of one form as one."""
    if len(questions) == 1:
        return questions[0]
    given = zip(*((q.points, q.labels, q.boxes, q.masks) for q in questions), strict=True)
    features = {name: torch.cat([q.features[name] for q in questions]) for name in questions[0].features}
    return Question(features, *(None if same[0] is None else torch.cat(same) for same in given))


class SamSegmenter:
    """Any of the family. Safe from several threads; keeps nothing of an image but its answers, while there is room."""

    def __init__(
        self, name: str, encoder: str, net: SamNet, device: torch.device, original: SamNet | None = None
    ) -> None:
        self.name = name
        self.encoder = encoder
        self.net = net.to(device)
        self._original = original  # alive as long as somebody uses its encoder
        self.device = device
        self.half = half_precision(device)
        self._own = object()  # marks its answers in the memory that all networks of a process share

    def encode(self, image: Image) -> Embedding:
        pixels = torch.from_numpy(self.net.pixels(image))[None].to(self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            features = self.net.features(pixels)
        arrays = {name: feature[0].to("cpu", torch.float16).numpy() for name, feature in features.items()}
        return Embedding(arrays, (image.shape[0], image.shape[1]), self.encoder)

    def decode(self, embedding: Embedding, prompt: Prompt) -> Prediction:
        return alone(self._decoded(embedding, prompt), self.answers)

    def decode_all(self, asked: Sequence[tuple[Embedding, Prompt]]) -> list[Prediction | Exception]:
        """What :meth:`decode` answers or raises for each; prompts of one form, on any images, in one pass."""
        return in_step([self._decoded(embedding, prompt) for embedding, prompt in asked], self.answers)

    def _decoded(self, embedding: Embedding, prompt: Prompt) -> Way[Prediction]:
        if embedding.encoder != self.encoder:
            raise ValueError(f"{self.name} cannot use an embedding of encoder {embedding.encoder!r}")
        if prompt.empty:
            raise ValueError("the prompt is empty: give a point, a box, a scribble or a mask")
        frame = self.frame(embedding.size)
        answer = yield from self._answer(embedding, frame, prompt)
        if answer is None:
            return Prediction(np.zeros(embedding.size, bool), 0.0)
        return Prediction(clean(frame.full(answer.logits.astype(np.float32)), prompt), answer.score)

    def frame(self, size: tuple[int, int]) -> Frame:
        """The frame of an image of ``size`` (height, width)."""
        return Frame(size, self.net.fitted(size[1], size[0]), self.net.side, self.net.low)

    def features(self, embedding: Embedding) -> dict[str, Tensor]:
        """The embedding's arrays as tensors on the device, float32, with a batch axis: what :class:`SamNet` takes."""
        return {
            name: torch.from_numpy(array.astype(np.float32))[None].to(self.device)
            for name, array in embedding.arrays.items()
        }

    def at_size(self, embedding: Embedding, size: tuple[int, int]) -> Embedding:
        """The embedding of the same image at another ``size`` (height, width): the encoder sees one size only."""
        return replace(embedding, size=size)

    def _answer(self, embedding: Embedding, frame: Frame, prompt: Prompt) -> Way[Answer | None]:
        """The answer to a prompt, None when nothing in it says where the object is."""
        strokes = [point for scribble in prompt.scribbles for point in along(scribble)]
        start = prompt.prior if prompt.prior is not None and prompt.prior.any() else None
        given = replace(prompt, points=()).digest()
        previous: Answer | None = None
        features: dict[str, Tensor] | None = None
        # A box, a scribble or a mask is a step of its own, then each click is one.
        for count in range(0 if prompt.box or strokes or start is not None else 1, len(prompt.points) + 1):
            points = [*strokes, *prompt.points[:count]]
            if not (prompt.box or start is not None or any(p.positive for p in points)):
                continue
            if start is not None and not count and prompt.points:
                continue
            key = hashlib.sha256(f"{given}{[(p.x, p.y, p.positive) for p in points]}".encode()).hexdigest()
            known: Answer | None = ANSWERS.recall(embedding, (self._own, key))
            if known is None:
                features = features or self.features(embedding)
                known = yield self._question(features, frame, prompt, points, previous)
                ANSWERS.keep(embedding, (self._own, key), known, known.logits.nbytes)
            previous = known
        return previous

    def _question(
        self, features: dict[str, Tensor], frame: Frame, prompt: Prompt, points: list[Point], previous: Answer | None
    ) -> Question:
        box = prompt.box
        mask: NDArray[np.float32] | None = None
        if previous is not None:
            mask = previous.logits.astype(np.float32)
        elif prompt.prior is not None and prompt.prior.any():
            mask = frame.logits(prompt.prior)
            box = box or (None if points else around(prompt.prior))
        places, labels = frame.points(points)
        return Question(
            features,
            points=self._tensor(places) if points else None,
            labels=self._tensor(labels) if points else None,
            boxes=None if box is None else self._tensor(frame.box(box)),
            masks=None if mask is None else self._tensor(mask),
        )

    @torch.inference_mode()
    def answers(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers to questions of one form, in one pass."""
        every = stacked(questions)
        logits, scores = self.net(
            every.features,
            points=every.points,
            labels=every.labels,
            boxes=every.boxes,
            masks=every.masks,
            several=every.open,
        )
        found = []
        for masks, judged in zip(logits, scores, strict=True):
            best = int(judged.argmax())
            chosen = masks[best].clamp(-32, 32).to("cpu", torch.float16).numpy().copy()
            found.append(Answer(chosen, min(1.0, max(0.0, float(judged[best])))))
        return found

    def _tensor(self, array: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(array)[None].to(self.device)


def load(source: Source) -> SamSegmenter:
    """A model of the family, or a version whose retrained decoder lies on a base model's encoder."""
    home = source.base or source.folder
    if source.threads:
        torch.set_num_threads(source.threads)
    digest = weights_digest(home)
    where = device(source.device)
    original = _original(home, digest, where)
    net = original.twin()
    if source.base is not None:
        if source.card.options.get(TAUGHT_ON, digest) != digest:
            raise ModelError(
                f"{source.folder} was retrained on other weights of {source.card.base} than are in {home} now: "
                "bring those back, or serve another version"
            )
        try:
            net.load_decoder(load_file(source.folder / DECODER))
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{source.folder / DECODER} cannot be read: {error}") from None
    return SamSegmenter(source.card.name, f"{net.kind}-{net.side}-{digest[:16]}", net, where, original)


def weights_digest(home: Path) -> str:
    """The sha256 of a base model's weights. Raises ModelError when they are not there."""
    try:
        return read_card(home).files.get(WEIGHTS) or sha256(home / WEIGHTS)
    except FileNotFoundError:
        raise ModelError(f"{home / WEIGHTS} is missing") from None


_originals: WeakValueDictionary[tuple[Path, str, torch.device], SamNet] = WeakValueDictionary()
_reading = threading.Lock()


def _original(home: Path, digest: str, where: torch.device) -> SamNet:
    """The network in a base model's folder, read once for all of its versions in use: they share the encoder."""
    with _reading:
        key = (home.resolve(), digest, where)
        net = _originals.get(key)
        if net is None:
            net = _originals[key] = read_net(home).to(where)
        return net
