"""What an annotator meant: the context of a click, a box or a stroke -> a prompt and the region it makes.

Points and boxes never come together: a box that clicks correct is found in the annotator's own
draft, which Label Studio saves after five seconds, or in a short memory until then. Label Studio
does not say who clicked, so the memory is used only where nothing speaks for another person.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from maskloop.labelstudio import pending
from maskloop.labelstudio.correction import Found, Refusal, mask_under, remember_answer
from maskloop.labelstudio.memory import LocalMemory, Memory
from maskloop.labelstudio.regions import Target, region_id
from maskloop.labelstudio.requests import PredictRequest, Task
from maskloop.labelstudio.rle import decode_mask
from maskloop.labelstudio.shapes import Brush
from maskloop.labelstudio.sources import Region
from maskloop.labelstudio.strokes import MOST_PAINTED, scribbles
from maskloop.segment.prompt import Box, Mask, Point, Prompt, Scribble

log = logging.getLogger(__name__)

CHAIN_SECONDS = 3600.0
"""How long clicks may follow a first one and still mean the same object."""


@dataclass(frozen=True)
class GestureOptions:
    """``box_memory_seconds`` 0 where several people open the same task; see docs on gestures for the other."""

    box_memory_seconds: float = 7.0
    correct_in_place: bool = False


@dataclass(frozen=True)
class Nothing:
    """There is no mask to make. ``reason`` is for the log; ``refused`` if something was asked and not done."""

    reason: str
    refused: bool = False


@dataclass(frozen=True, eq=False)
class Interaction:
    """A prompt in pixels of the upright image, and the region that the mask becomes.

    ``group`` and ``parts``: a newer interaction of the same group whose parts contain all parts of an
    older one makes the older one pointless; parts are ids of the annotator's own prompts.
    ``base`` is the mask being corrected in place: only what a click asks for may change.
    """

    task: Task
    image_url: str
    prompt: Prompt
    target: Target
    group: str
    parts: frozenset[str]
    base: Mask | None = None
    box_note: pending.Note | None = field(default=None, repr=False)
    options: GestureOptions = GestureOptions()

    def remember(self, memory: Memory, rle: bytes, now: float | None = None) -> None:
        """Keep what the next gesture may need. ``rle`` is the mask that was answered, empty for none."""
        now = time.time() if now is None else now
        if self.box_note is not None and self.options.box_memory_seconds > 0:
            self.box_note.keep(memory, self.options.box_memory_seconds, now)
        if self.options.correct_in_place and rle:
            remember_answer(memory, self.task, self.target, rle, now)


def interpret(
    request: PredictRequest, memory: Memory, options: GestureOptions = GestureOptions(), now: float | None = None
) -> Interaction | Nothing:
    """The prompt of an interactive request (its first task), or why there is none. Never raises on odd input.

    Args:
        memory: what earlier requests left; this call may add to it.
        now: epoch seconds, for tests.
    """
    if not request.context:
        return Nothing("no prompt in the context")
    if not request.tasks:
        return Nothing("no task")
    now = time.time() if now is None else now
    task = request.tasks[0]
    if task.id is None:
        # Without an id the memory of one task could be taken for another's.
        memory = LocalMemory(limit=1)
    pending.watch_people(task, memory)
    answer = _Reading(request, task, memory, options, now).read()
    if isinstance(answer, Nothing):
        log.log(
            logging.WARNING if answer.refused else logging.DEBUG, "task %s: no mask, because %s", task.id, answer.reason
        )
    return answer


def opened(request: PredictRequest, memory: Memory, now: float | None = None) -> None:
    """Take note of a batch request for a single task: as a rule somebody has opened it."""
    if not request.interactive and len(request.tasks) == 1:
        pending.watch_opening(request.tasks[0], memory, time.time() if now is None else now)


class _Reading:
    """One context being read."""

    def __init__(
        self, request: PredictRequest, task: Task, memory: Memory, options: GestureOptions, now: float
    ) -> None:
        self.task, self.memory, self.options, self.now = task, memory, options, now
        self.regions = _prompts(request.context or ())
        self.last = self.regions[-1] if self.regions else None
        self.config = request.config

    def read(self) -> Interaction | Nothing:
        last = self.last
        if last is None:
            return Nothing("the context holds ordinary regions only")
        control = self.config.output(last.to_name)
        if control is None:
            return Nothing(f"no tag of the labeling config takes masks on {last.to_name!r}", refused=True)
        url = self.task.images.get(last.to_name, "")
        if not url:
            return Nothing(self.task.problem or f"the task has no image for {last.to_name!r}", refused=True)
        self.control, self.url, self.size = control, url, last.size
        self.label = control.label_for(last.label)
        points = [region for region in self.regions if isinstance(region.shape, Point)]
        boxes = [region for region in self.regions if isinstance(region.shape, Box)]
        strokes = [region for region in self.regions if isinstance(region.shape, Brush)]
        if boxes:
            return self._box(boxes[-1], points)
        if strokes:
            return self._strokes(strokes)
        return self._points(points)

    def _box(self, region: Region, points: Sequence[Region]) -> Interaction:
        assert isinstance(region.shape, Box)
        note = pending.Note.of(self.task, region, region.shape, self.now)
        if self.options.box_memory_seconds > 0:
            note.keep(self.memory, self.options.box_memory_seconds, self.now)
        prompt = Prompt(points=_points(points), box=region.shape)
        return self._interaction(prompt, self._new(region.id), (region, *points), box_note=note)

    def _strokes(self, regions: Sequence[Region]) -> Interaction | Nothing:
        if len(regions) * self.size[0] * self.size[1] > MOST_PAINTED:
            return Nothing(f"{len(regions)} strokes on an image of that size are too many at once", refused=True)
        drawn: list[Scribble] = []
        for region in regions:
            if isinstance(region.shape, Brush):
                drawn += scribbles(region.shape, self.size, region.is_positive is not False)
        if not any(scribble.positive for scribble in drawn):
            return Nothing("the strokes mark no object")
        return self._interaction(Prompt(scribbles=tuple(drawn)), self._new(regions[0].id), regions)

    def _points(self, points: Sequence[Region]) -> Interaction | Nothing:
        """The first point decides what the clicks are about, and the decision holds as long as it is there."""
        first = points[0]
        key = f"chain/{self.task.project}/{self.task.id}/{first.id}/{self.size}"
        decision = self.memory.get(key)
        if decision is None:
            made = self._decide(first)
            if isinstance(made, Refusal):
                return Nothing(made.reason, refused=True)
            if made is None:
                if all(not region.is_positive for region in points):
                    return Nothing("a negative click with no mask under it")
                made = {"kind": "new"}
            decision = made
            self.memory.put(key, decision, CHAIN_SECONDS)
        if decision["kind"] == "box":
            note = pending.Note.from_json(decision["box"])
            earlier = tuple(Point(x, y, bool(sign)) for id, x, y, sign in note.points if id not in _ids(points))
            prompt = Prompt(points=earlier + _points(points), box=note.box)
            note = note.with_points(points, self.task, self.now)
            return self._interaction(prompt, self._new(note.id), points, box_note=note)
        if decision["kind"] == "mask":
            found = Found.from_json(decision["mask"])
            base = decode_mask(base64.b64decode(found.rle), (self.size[1], self.size[0]))
            return self._interaction(Prompt(points=_points(points), prior=base), found.target, points, base=base)
        return self._interaction(Prompt(points=_points(points)), self._new(first.id), points)

    def _decide(self, first: Region) -> dict[str, Any] | Refusal | None:
        """What a first point is about: a pending box, a mask to correct, or None, a new object."""
        note = pending.find(self.task, first, self.config, self.memory, self.options.box_memory_seconds, self.now)
        if note is not None:
            return {"kind": "box", "box": note.to_json()}
        if self.options.correct_in_place:
            found = mask_under(self.task, first, self.control, self.label, self.memory, self.now)
            if isinstance(found, Refusal):
                return found
            if found is not None:
                return {"kind": "mask", "mask": found.to_json()}
        return None

    def _new(self, prompt: str) -> Target:
        return Target.of(self.control, region_id(self.task.id, prompt), self.label, self.size)

    def _interaction(
        self,
        prompt: Prompt,
        target: Target,
        regions: Sequence[Region],
        base: Mask | None = None,
        box_note: pending.Note | None = None,
    ) -> Interaction:
        last = regions[-1]
        return Interaction(
            task=self.task,
            image_url=self.url,
            prompt=replace(prompt, label=target.label),
            target=target,
            group=f"{self.task.project}/{self.task.id}/{last.to_name}/{last.label}",
            parts=_ids(regions),
            base=base,
            box_note=box_note,
            options=self.options,
        )


def _prompts(context: Sequence[Region]) -> tuple[Region, ...]:
    """The prompts of a context without the ordinary regions that Label Studio mixes in.

    Those have the same type and label and come first. A smart point says whether it is positive,
    an ordinary one does not; of boxes (and strokes) only the last can be the new one.
    """
    drawn = [r for r in context if isinstance(r.shape, Point | Box | Brush)]
    newest = next((r for r in reversed(drawn) if not isinstance(r.shape, Point) or r.is_positive is not None), None)
    if newest is None:
        return ()
    return tuple(
        region
        for region in drawn
        if (region is newest or region.is_positive is not None)
        and (region.label, region.to_name, region.size) == (newest.label, newest.to_name, newest.size)
    )


def _points(regions: Sequence[Region]) -> tuple[Point, ...]:
    return tuple(region.shape for region in regions if isinstance(region.shape, Point))


def _ids(regions: Sequence[Region]) -> frozenset[str]:
    return frozenset(region.id for region in regions)
