"""A box on the screen that the next clicks may be about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from maskloop.labelstudio.controls import LabelConfig
from maskloop.labelstudio.memory import Memory
from maskloop.labelstudio.regions import region_id
from maskloop.labelstudio.requests import Task
from maskloop.labelstudio.sources import Region
from maskloop.segment.prompt import Box, Point

REACH = 0.25
"""A click this share of the box outside of it is still about the box."""

SETTLED = 0.5
"""Seconds between the box and a draft that would certainly hold it."""

OPENING_SECONDS = 5.0
"""Requests of one opening come within this time."""

DAY = 86_400.0


@dataclass(frozen=True)
class Note:
    """A box that was answered: where, when, by whom as far as known, and the clicks it has had since.

    ``user`` and ``draft`` are the owner and the time of the draft that came with the last request
    about the box. ``points`` are (id, x, y, positive) in click order.
    """

    key: str
    id: str
    box: Box
    at: float
    user: str | None
    draft: float
    points: tuple[tuple[str, float, float, int], ...] = ()

    @classmethod
    def of(cls, task: Task, region: Region, box: Box, now: float) -> Note:
        draft = task.draft
        return cls(
            _key(task, region), region.id, box, now, draft.user if draft else None, draft.updated if draft else 0.0
        )

    def with_points(self, points: Sequence[Region], task: Task, now: float) -> Note:
        """The note after a click of the same person."""
        known = {region.id for region in points}
        kept = tuple(point for point in self.points if point[0] not in known)
        new = tuple(
            (r.id, r.shape.x, r.shape.y, int(bool(r.is_positive))) for r in points if isinstance(r.shape, Point)
        )
        draft = task.draft
        return replace(
            self,
            at=now,
            points=kept + new,
            user=draft.user if draft else self.user,
            draft=draft.updated if draft else self.draft,
        )

    def keep(self, memory: Memory, seconds: float, now: float) -> None:
        """Remember it, unless a later box has taken its place, or later clicks on it are known."""
        known = memory.get(self.key)
        if known is not None and known["at"] > self.at:
            if known["id"] != self.id:
                return
            memory.put(self.key, {**known, "at": now}, seconds)
            return
        memory.put(self.key, replace(self, at=now).to_json(), seconds)

    def to_json(self) -> dict[str, Any]:
        box = self.box
        return {
            "key": self.key,
            "id": self.id,
            "box": [box.x0, box.y0, box.x1, box.y1],
            "at": self.at,
            "user": self.user,
            "draft": self.draft,
            "points": [list(point) for point in self.points],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Note:
        points = tuple((str(id), float(x), float(y), int(sign)) for id, x, y, sign in data["points"])
        return cls(data["key"], data["id"], Box(*data["box"]), data["at"], data["user"], data["draft"], points)


def find(task: Task, first: Region, config: LabelConfig, memory: Memory, seconds: float, now: float) -> Note | None:
    """The box that a first click is about, None if the click stands for itself."""
    if not isinstance(first.shape, Point):
        return None
    in_draft = _in_draft(task, first, first.shape, config, now)
    if in_draft is not None:
        known = memory.get(in_draft.key)
        return replace(in_draft, points=Note.from_json(known).points if known and known["id"] == in_draft.id else ())
    data = memory.get(_key(task, first)) if seconds > 0 else None
    if data is None or memory.get(_shared(task)) is not None:
        return None
    note = Note.from_json(data)
    about = now - note.at <= seconds and note.box.contains(first.shape.x, first.shape.y, REACH)
    return note if about and _same_person(note, task, memory) else None


def watch_people(task: Task, memory: Memory) -> None:
    """Two people with drafts on one task: from then on this project's boxes are not taken from memory."""
    draft = task.draft
    if draft is None or draft.user is None:
        return
    key = f"people/{task.project}/{task.id}"
    seen = memory.get(key)
    if seen is not None and seen["user"] != draft.user:
        memory.put(_shared(task), {"task": task.id}, DAY)
    memory.put(key, {"user": draft.user}, DAY)


def watch_opening(task: Task, memory: Memory, now: float) -> None:
    """Somebody opened a task. Label Studio asks for its prediction then, once or twice in a moment."""
    if task.id is None:
        return
    key = _openings(task)
    known = memory.get(key) or {"count": 0, "last": -DAY}
    again = now - known["last"] > OPENING_SECONDS
    memory.put(key, {"count": known["count"] + again, "last": now}, DAY)


def _in_draft(task: Task, first: Region, click: Point, config: LabelConfig, now: float) -> Note | None:
    """The latest smart rectangle of the own draft that the click lies in, or near.

    Not those that were there before (pre-annotated or submitted), and not one whose mask was accepted:
    accepting deletes the prompt, so a rectangle beside its mask is an ordinary one.
    """
    draft = task.draft
    if draft is None:
        return None
    elsewhere = {r.id for source in (*task.annotations, *task.predictions) for r in source.regions}
    taken = elsewhere | {r.id for r in draft.regions if not isinstance(r.shape, Box)}
    near: list[tuple[bool, int, Region, Box]] = []
    for order, region in enumerate(draft.regions):
        box = region.shape
        control = config.control(region.from_name)
        if (
            isinstance(box, Box)
            and control is not None
            and control.smart
            and (region.label, region.to_name, region.size) == (first.label, first.to_name, first.size)
            and region.id not in elsewhere
            and region_id(task.id, region.id) not in taken
            and not region.origin.startswith("prediction")
            and box.contains(click.x, click.y, REACH)
        ):
            near.append((box.contains(click.x, click.y), order, region, box))
    if not near:
        return None
    _, _, region, box = max(near, key=lambda item: item[:2])
    return Note.of(task, region, box, now)


def _same_person(note: Note, task: Task, memory: Memory) -> bool:
    """Whether nothing speaks for another person than the one who drew the box.

    Label Studio sends the drafts of the person who clicks and nobody else's. Whoever had one when
    drawing still has it, and a draft saved since then holds the box, or the mask it became.
    """
    draft = task.draft
    if draft is None:
        # Nobody has a draft yet. If the task was opened twice, it may be by two people.
        return note.user is None and (memory.get(_openings(task)) or {"count": 0})["count"] < 2
    if any(region.id == region_id(task.id, note.id) for region in draft.regions):
        return True
    return draft.user == note.user and not (draft.updated > note.draft and draft.updated > note.at + SETTLED)


def _key(task: Task, region: Region) -> str:
    return f"box/{task.project}/{task.id}/{region.to_name}/{region.label}/{region.size[0]}x{region.size[1]}"


def _openings(task: Task) -> str:
    return f"openings/{task.project}/{task.id}"


def _shared(task: Task) -> str:
    return f"shared/{task.project}"
