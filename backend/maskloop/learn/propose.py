"""Pre-annotation that learns: objects proposed with no prompt at all, from the same submissions.

A small network on frozen features says for every pixel which label it looks like and how deep inside an object
it lies; regions of one object each are turned into masks by the click decoder, prompted in the way that did best
on the trained images. A label goes live only where its proposals are good enough on the hold-out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from skimage.feature import peak_local_max
from skimage.segmentation import watershed
from torch import Tensor, nn

from maskloop.learn.pixels import grid_size, look
from maskloop.learn.samples import Sample
from maskloop.segment.postprocess import clean
from maskloop.segment.prompt import Box, Image, Mask, Point, Prompt
from maskloop.segment.segmenter import Embedding, Segmenter

FILE = "proposals.safetensors"

MOST_PROPOSALS = 40
WAYS = ("region", "point", "box and point", "prior")
"""How a region becomes a mask: taken as it is, or by the decoder from one of these prompts."""

DECODING = 0.03
"""Mean IoU that a prompt must add to be preferred to the region as it is."""

LEAST_OBJECTS = 4
LEAST_RECALL = 0.4
LEAST_PRECISION = 0.5
GOOD_IOU = 0.7

Embed = Callable[[Sample], Embedding]
Report = Callable[[float], None]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mask nobody asked for: H x W at image size, its label, and how sure (0 to 1)."""

    mask: Mask
    label: str
    score: float


@dataclass(frozen=True)
class Manner:
    """How objects of one label are looked for: the least likeness of a pixel, object sizes (grid pixels), the way."""

    threshold: float
    radius: float
    smallest: float
    largest: float
    way: str


@dataclass(frozen=True)
class Standing:
    """What the hold-out says about a label's proposals, and whether they are shown.

    ``recall``, ``precision`` count IoU >= 0.7; ``share`` is the part of the objects proposed with IoU >= 0.85.
    """

    live: bool
    floor: float
    precision: float
    recall: float
    share: float
    objects: int
    why: str


class Head(nn.Module):
    """Pixel features to likeness of each label (logits) and depth inside an object (logit)."""

    mean: Tensor
    spread: Tensor

    def __init__(self, channels: int, labels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))
        self.layers = nn.Sequential(
            nn.Linear(channels, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, labels + 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.layers(((features - self.mean) / self.spread).clamp(-6, 6))
        return result


@dataclass(frozen=True, eq=False)
class Proposer:
    """A trained head. ``floors`` holds the labels that are live and the least score they are shown with."""

    head: Head | None
    manners: Mapping[str, Manner]
    floors: Mapping[str, float]

    def propose(self, pixels: Image, embedding: Embedding, segmenter: Segmenter) -> list[Proposal]:
        """The masks of the live labels on an image, best first; none is an honest answer."""
        found = [
            p for p in self.all(pixels, embedding, segmenter, frozenset(self.floors)) if p.score >= self.floors[p.label]
        ]
        return found[:MOST_PROPOSALS]

    def all(
        self, pixels: Image, embedding: Embedding, segmenter: Segmenter, labels: frozenset[str] | None = None
    ) -> list[Proposal]:
        """Everything that may be an object of one of the labels (all by default), best first, no doubles."""
        wanted = [label for label in self.manners if labels is None or label in labels]
        if self.head is None or not wanted:
            return []
        likeness, depth = _maps(self.head, look(pixels, embedding))
        found: list[Proposal] = []
        for index, label in enumerate(self.manners):
            if label in wanted:
                manner = self.manners[label]
                for region in islands(likeness[index], depth, manner)[:MOST_PROPOSALS]:
                    proposal = _mask(region, likeness[index], label, manner.way, pixels, embedding, segmenter)
                    if proposal is not None:
                        found.append(proposal)
        return without_doubles(sorted(found, key=lambda p: -p.score))

    def save(self, folder: Path, standing: Mapping[str, Standing]) -> None:
        """Write the head and what the hold-out says beside the weights of a version."""
        tensors = {} if self.head is None else {n: t.contiguous() for n, t in self.head.state_dict().items()}
        about = {
            "manners": {label: asdict(manner) for label, manner in self.manners.items()},
            "standing": {label: asdict(one) for label, one in standing.items()},
        }
        save_file({**tensors, "version": torch.tensor([1])}, folder / FILE, metadata={"about": json.dumps(about)})


def load(folder: Path | None) -> Proposer:
    """The proposer of a version; one that proposes nothing where there is none."""
    nobody = Proposer(None, {}, {})
    if folder is None:
        return nobody
    try:
        with safe_open(folder / FILE, "pt") as file:
            about = json.loads(file.metadata()["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys() if name != "version"}  # noqa: SIM118
    except (FileNotFoundError, SafetensorError):
        return nobody
    manners = {label: Manner(**manner) for label, manner in about["manners"].items()}
    if not tensors:
        return nobody
    head = Head(len(tensors["mean"]), len(manners))
    head.load_state_dict(tensors)
    return Proposer(head.eval(), manners, {k: s.floor for k, s in standing(folder).items() if s.live})


def standing(folder: Path | None) -> dict[str, Standing]:
    """What the hold-out said about the labels of a version; empty where there is no proposer."""
    try:
        with safe_open((folder or Path("/nonexistent")) / FILE, "pt") as file:
            about = json.loads(file.metadata()["about"])
    except (FileNotFoundError, SafetensorError):
        return {}
    return {label: Standing(**one) for label, one in about["standing"].items()}


def fit(samples: Sequence[Sample], segmenter: Segmenter, embed: Embed, seed: int, report: Report) -> Proposer:
    """A proposer for the labels of the samples; its floors are still to be tuned."""
    labels = sorted({t.label for s in samples for t in s.targets if t.label is not None})
    if not labels:
        return Proposer(None, {}, {})
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    features, answers, depths = [], [], []
    for number, sample in enumerate(samples):
        report(0.4 * number / len(samples))
        x, y, d = _pixel_lessons(sample, look(sample.pixels, embed(sample)), labels, rng)
        features.append(x)
        answers.append(y)
        depths.append(d)
    head = _train_head(np.concatenate(features), np.concatenate(answers), np.concatenate(depths), report)
    manners = {label: _manner(samples, label) for label in labels}
    proposer = Proposer(head, manners, {})
    chosen = [samples[k] for k in rng.permutation(len(samples))[:8]]
    for number, (index, label) in enumerate(enumerate(labels)):
        manners[label] = _best_manner(proposer, index, label, chosen, segmenter, embed)
        report(0.5 + 0.5 * (number + 1) / len(labels))
    return Proposer(head, manners, {})


def tune(
    proposer: Proposer,
    held: Sequence[Sample],
    trained: Sequence[Sample],
    segmenter: Segmenter,
    embed: Embed,
    report: Report,
) -> dict[str, Standing]:
    """The floor of every label, and whether it goes live: what the hold-out says.

    The rule: with the floor that gives the best F1, at least 40 % of the held-out objects are found (IoU >= 0.7)
    and at least half of what is proposed is right. Where people label only some of the objects of an image,
    proposals that meet no submitted object prove nothing; this is taken to be so when, on the images that were
    trained on as if everything else were background, most proposals above the floor still meet none. Then only
    the first half of the rule counts, with proposals that meet a submitted object badly as the wrong ones.
    """
    tried = [(sample, proposer.all(sample.pixels, embed(sample), segmenter)) for sample in held]
    report(0.6)
    seen = [(sample, proposer.all(sample.pixels, embed(sample), segmenter)) for sample in trained[:4]]
    report(1.0)
    return {label: _standing(label, tried, seen) for label in proposer.manners}


def islands(likeness: Floats, depth: Floats, manner: Manner) -> list[Mask]:
    """Regions of one object each on the grid, the most alike first."""
    alike = cv2.GaussianBlur(likeness, (0, 0), 0.7) > manner.threshold
    distance = np.asarray(cv2.distanceTransform(np.pad(alike, 1).astype(np.uint8), cv2.DIST_L2, 5), np.float32)[
        1:-1, 1:-1
    ]
    height = cv2.GaussianBlur(distance / max(manner.radius, 1.0) + depth, (0, 0), max(0.7, 0.25 * manner.radius))
    height[~alike] = 0
    peaks = peak_local_max(height, min_distance=max(1, round(0.6 * manner.radius)), labels=alike.astype(np.int32))  # type: ignore[no-untyped-call]
    markers = np.zeros(alike.shape, np.int32)
    for number, (row, column) in enumerate(peaks):
        markers[row, column] = number + 1
    parts = watershed(-height, markers, mask=alike)  # type: ignore[no-untyped-call]
    found: list[tuple[float, Mask]] = []
    for number in range(1, len(peaks) + 1):
        region: Mask = parts == number
        area = int(region.sum())
        if manner.smallest <= area <= manner.largest:
            found.append((float(likeness[region].mean()), region))
    return [region for _, region in sorted(found, key=lambda entry: -entry[0])]


def without_doubles(proposals: Sequence[Proposal]) -> list[Proposal]:
    """Of two masks that overlap by half of the smaller one, the better; sorted input, sorted output."""
    kept: list[tuple[Proposal, int]] = []
    for proposal in proposals:
        area = int(proposal.mask.sum())
        overlaps = (np.count_nonzero(proposal.mask & other.mask) > 0.5 * min(area, size) for other, size in kept)
        if area and not any(overlaps):
            kept.append((proposal, area))
    return [proposal for proposal, _ in kept]


def _maps(head: Head, features: Floats) -> tuple[Floats, Floats]:
    height, width, channels = features.shape
    flat = torch.from_numpy(features.reshape(-1, channels))
    with torch.inference_mode():
        answers = torch.cat([head(part) for part in torch.split(flat, 65536)]).sigmoid().numpy()
    maps = np.ascontiguousarray(answers.reshape(height, width, -1).transpose(2, 0, 1))
    return maps[:-1], maps[-1]


def _pixel_lessons(
    sample: Sample, features: Floats, labels: Sequence[str], rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Pixels of one image: features, which labels they have (N x labels), depth inside an object (0 outside)."""
    height, width = features.shape[:2]
    belongs = np.zeros((height, width, len(labels)), bool)
    unknown = np.zeros((height, width), bool)
    depth = np.zeros((height, width), np.float32)
    for target in sample.targets:
        small = cv2.resize(target.mask.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_AREA) >= 128
        if target.label is None:
            unknown |= small
            continue
        belongs[..., labels.index(target.label)] |= small
        inner = cv2.distanceTransform(np.pad(small, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        depth = np.maximum(depth, inner / max(float(inner.max()), 1.0))
    inside = belongs.any(axis=-1)
    ring = (cv2.dilate(np.asarray(inside, np.uint8), np.ones((9, 9), np.uint8)) > 0) & ~inside & ~unknown
    picked = []
    for area, most in ((inside, 1500), (ring, 700), (~inside & ~unknown, 1800)):
        places = np.flatnonzero(area)
        picked.append(rng.permutation(places)[:most])
    chosen = np.concatenate(picked)
    flat = features.reshape(-1, features.shape[-1])[chosen]
    return flat, belongs.reshape(-1, len(labels))[chosen].astype(np.float32), depth.reshape(-1)[chosen]


def _train_head(features: Floats, answers: Floats, depths: Floats, report: Report, epochs: int = 12) -> Head:
    x, y, d = torch.from_numpy(features), torch.from_numpy(answers), torch.from_numpy(depths)
    head = Head(x.shape[1], y.shape[1])
    head.mean.copy_(x.mean(0))
    head.spread.copy_(x.std(0) + 1e-4)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=1e-3)
    steps = epochs * max(1, len(x) // 2048)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps + 1)
    # Rare labels count as much as frequent ones.
    weight = (len(y) / (2 * y.sum(0) + 1)).clamp(0.5, 20)
    cross = nn.BCEWithLogitsLoss(pos_weight=weight)
    head.train()
    for step in range(steps):
        pick = torch.randint(0, len(x), (2048,))
        out = head(x[pick])
        loss = cross(out[:, :-1], y[pick]) + 0.5 * nn.functional.binary_cross_entropy_with_logits(out[:, -1], d[pick])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            report(0.4 + 0.1 * step / steps)
    return head.eval()


def _manner(samples: Sequence[Sample], label: str) -> Manner:
    areas = []
    for sample in samples:
        height, width = sample.pixels.shape[:2]
        rows, columns = grid_size(height, width)
        scale = rows * columns / (height * width)
        areas += [float(t.mask.sum()) * scale for t in sample.targets if t.label == label]
    small, middle, large = np.quantile(areas, [0.05, 0.5, 0.95])
    return Manner(0.5, float(np.sqrt(middle / np.pi)), max(6.0, 0.3 * float(small)), 3.0 * float(large), "region")


def _best_manner(
    proposer: Proposer, index: int, label: str, samples: Sequence[Sample], segmenter: Segmenter, embed: Embed
) -> Manner:
    """The threshold and the prompt that fit the submitted objects of some trained images best."""
    assert proposer.head is not None
    start = proposer.manners[label]
    maps = []
    for sample in samples:
        truths = [t.mask for t in sample.targets if t.label == label]
        if truths:
            maps.append((sample, truths, *_maps(proposer.head, look(sample.pixels, embed(sample)))))
    if not maps:
        return start
    best = (-1.0, start)
    for threshold in (0.3, 0.45, 0.6, 0.75, 0.88):
        manner = replace(start, threshold=threshold)
        hits = [_hit(islands(alike[index], depth, manner), truths) for _, truths, alike, depth in maps]
        value = float(np.mean([iou for one in hits for iou, _ in one]))
        if value > best[0]:
            best = (value, manner)
    manner = best[1]
    values: dict[str, list[float]] = {way: [] for way in WAYS}
    for sample, truths, alike, depth in maps[:6]:
        for iou, found in _hit(islands(alike[index], depth, manner), truths)[:2]:
            if found is None or iou < 0.2:
                continue
            region, truth = found
            for way in WAYS:
                made = _mask(region, alike[index], label, way, sample.pixels, embed(sample), segmenter)
                values[way].append(0.0 if made is None else _iou(made.mask, truth))
    # A decoded mask costs a look at the image each: it has to be clearly better than the region itself.
    worth = {way: float(np.mean(found)) - DECODING * (way != "region") for way, found in values.items() if found}
    return replace(manner, way=max(worth, key=lambda way: worth[way], default="region"))


def _hit(regions: Sequence[Mask], truths: Sequence[Mask]) -> list[tuple[float, tuple[Mask, Mask] | None]]:
    """For every true mask the IoU of the region that fits it best, with both."""
    result: list[tuple[float, tuple[Mask, Mask] | None]] = []
    for truth in truths:
        best: tuple[float, tuple[Mask, Mask] | None] = (0.0, None)
        if regions:
            shape = regions[0].shape
            small = cv2.resize(truth.astype(np.uint8) * 255, shape[::-1], interpolation=cv2.INTER_AREA) >= 128
            for region in regions:
                value = _iou(region, small) if bool((region & small).any()) else 0.0
                if value > best[0]:
                    best = (value, (region, truth))
        result.append(best)
    return result


def _mask(
    region: Mask, likeness: Floats, label: str, way: str, pixels: Image, embedding: Embedding, segmenter: Segmenter
) -> Proposal | None:
    """A region on the grid as a mask of the image."""
    height, width = pixels.shape[:2]
    soft = cv2.resize(region.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    rough: Mask = soft >= 0.5
    if not rough.any():
        return None
    sure = float(likeness[region].mean())
    if way == "region":
        return Proposal(rough, label, sure)
    prompt = _prompt(rough, way)
    prediction = segmenter.decode(embedding, prompt)
    mask = clean(prediction.mask, prompt)
    if not mask.any():
        return None
    agreement = _iou(mask, rough)
    score = float(np.cbrt(max(prediction.score, 0.0) * agreement * sure))
    return Proposal(mask, label, min(1.0, score))


def _prompt(rough: Mask, way: str) -> Prompt:
    rows, columns = np.flatnonzero(rough.any(axis=1)), np.flatnonzero(rough.any(axis=0))
    box = Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    inner = cv2.distanceTransform(np.pad(rough, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(inner.argmax()), inner.shape)
    point = (Point(float(column) + 0.5, float(row) + 0.5),)
    if way == "point":
        return Prompt(points=point)
    if way == "box and point":
        return Prompt(points=point, box=box)
    return Prompt(points=point, prior=rough)


def _iou(a: Mask, b: Mask) -> float:
    union = int(np.count_nonzero(a | b))
    return float(np.count_nonzero(a & b) / union) if union else 0.0


def _judged(
    label: str, tried: Sequence[tuple[Sample, Sequence[Proposal]]]
) -> Iterator[tuple[float, float, bool, bool]]:
    """For every proposal of a label: score, IoU with its object, whether it found a new one, whether it met any."""
    for sample, proposals in tried:
        open_truths = [t.mask for t in sample.targets if t.label == label]
        every = [t.mask for t in sample.targets]
        for proposal in proposals:
            if proposal.label != label:
                continue
            values = [_iou(proposal.mask, truth) for truth in open_truths]
            best = int(np.argmax(values)) if values else -1
            value = values[best] if values else 0.0
            if value >= GOOD_IOU:
                del open_truths[best]
            area = np.count_nonzero(proposal.mask)
            met = any(np.count_nonzero(proposal.mask & truth) > 0.2 * area for truth in every)
            yield proposal.score, value, value >= GOOD_IOU, met


def _standing(
    label: str, tried: Sequence[tuple[Sample, Sequence[Proposal]]], seen: Sequence[tuple[Sample, Sequence[Proposal]]]
) -> Standing:
    objects = sum(t.label == label for sample, _ in tried for t in sample.targets)
    if objects < LEAST_OBJECTS:
        return Standing(False, 1.0, 0.0, 0.0, 0.0, objects, f"{objects} held-out objects; {LEAST_OBJECTS} are needed")
    judged, on_trained = list(_judged(label, tried)), list(_judged(label, seen))
    best = (-1.0, Standing(False, 1.0, 0.0, 0.0, 0.0, objects, "nothing proposed"))
    for floor in sorted({round(score, 3) for score, *_ in judged}):
        above = [(value, right, met) for score, value, right, met in judged if score >= floor]
        lone = [met for score, _, _, met in on_trained if score >= floor]
        partly = bool(lone) and sum(lone) < 0.5 * len(lone)
        right = sum(r for _, r, _ in above)
        wrong = sum(not r and (met or not partly) for _, r, met in above)
        precision, recall = right / max(1, right + wrong), right / objects
        f1 = 2 * precision * recall / max(1e-9, precision + recall)
        live = recall >= LEAST_RECALL and precision >= LEAST_PRECISION
        why = f"finds {recall:.0%} of {objects} held-out objects, {precision:.0%} of its masks are right"
        why += " (images are labelled in part: masks that meet no submitted object are not counted)" if partly else ""
        share = sum(value >= 0.85 for value, _, _ in above) / objects
        if (live, f1) > (best[1].live, best[0]):
            best = (f1, Standing(live, float(floor), precision, recall, min(1.0, share), objects, why))
    return best[1]
