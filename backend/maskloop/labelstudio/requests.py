"""The bodies of /predict and /setup, parsed once, at the door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from maskloop.labelstudio.controls import ConfigError, LabelConfig
from maskloop.labelstudio.sources import Region, Source, parse_context, parse_source


class BadRequest(ValueError):
    """The body is not what Label Studio sends; the message says what is wrong."""


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for."""

    max_tasks: int = 10_000
    max_pixels: int = 100_000_000
    max_prompts: int = 1_000


@dataclass(frozen=True)
class Task:
    """One image to work on, with what people and models have put on it so far.

    ``images`` maps the name of an image tag to the URL in this task. ``problem`` says why the
    task cannot be worked on; everything else may be empty then.
    """

    id: int | None
    project: int | None
    images: Mapping[str, str] = field(default_factory=dict)
    image_url: str = ""
    annotations: tuple[Source, ...] = ()
    drafts: tuple[Source, ...] = ()
    predictions: tuple[Source, ...] = ()
    problem: str | None = None

    @property
    def draft(self) -> Source | None:
        """The latest draft: it belongs to whoever sent the request, Label Studio sends no other's."""
        return max(self.drafts, key=lambda draft: draft.updated, default=None)


@dataclass(frozen=True)
class PredictRequest:
    """A click or box (``context`` with regions), or a batch (``context`` None; opening a task is one, too).

    An empty context is what Label Studio sends when pending prompts are destroyed: there is
    nothing to do. ``tasks`` are in the order of the answer; a click has exactly one.
    """

    project: int | None
    config: LabelConfig
    tasks: tuple[Task, ...]
    context: tuple[Region, ...] | None = None

    @property
    def interactive(self) -> bool:
        return self.context is not None


def parse_predict(body: object, limits: Limits = Limits()) -> PredictRequest:
    """The body of POST /predict. Raises BadRequest; a broken task gets its ``problem`` instead."""
    data = _object(body)
    xml = data.get("label_config")
    if not isinstance(xml, str):
        raise BadRequest("label_config is missing: Label Studio sends the labeling config with every request.")
    try:
        config = LabelConfig.parse(xml)
    except ConfigError as error:
        raise BadRequest(f"label_config: {error}.") from None
    raw = data.get("tasks")
    if not isinstance(raw, list):
        raise BadRequest('tasks is missing: it is a list of tasks, [{"id": 1, "data": {...}}].')
    if len(raw) > limits.max_tasks:
        raise BadRequest(f"{len(raw)} tasks in one request, at most {limits.max_tasks} are taken (MASKLOOP_MAX_TASKS).")
    project = project_id(data.get("project"))
    context = _context(data, limits)
    return PredictRequest(
        project=project,
        config=config,
        tasks=tuple(_task(task, project, config, limits) for task in raw),
        context=context,
    )


def project_id(value: object) -> int | None:
    """1 of "1.1795417656" (id and creation time), of "1" and of 1. Raises BadRequest."""
    if value is None or value == "":
        return None
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    text = str(value).split(".")[0] if plain and (not isinstance(value, int) or is_id(value)) else ""
    if not (text.isascii() and text.isdigit() and len(text) < 20 and is_id(int(text))):
        raise BadRequest(f'project is {str(value)[:40]!r}; Label Studio sends "<id>.<time>", like "1.1795417656".')
    return int(text)


def is_id(value: object) -> TypeGuard[int]:
    """Whether a value can be the id of something in Label Studio: its databases count up to 2^63 - 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _object(body: object) -> Mapping[str, Any]:
    if not isinstance(body, Mapping):
        raise BadRequest("the body is not a JSON object.")
    return body


def _context(data: Mapping[str, Any], limits: Limits) -> tuple[Region, ...] | None:
    params = data.get("params")
    if params is not None and not isinstance(params, Mapping):
        raise BadRequest("params is not an object.")
    context = (params or {}).get("context")
    if context is None:
        return None
    result = context.get("result") if isinstance(context, Mapping) else None
    if result is None:
        if context == {}:
            return None
        raise BadRequest('params.context is not {"result": [regions]}.')
    if not isinstance(result, list):
        raise BadRequest("params.context.result is not a list of regions.")
    if len(result) > limits.max_prompts:
        raise BadRequest(f"{len(result)} regions in one context, at most {limits.max_prompts} are taken.")
    try:
        return parse_context(result, limits.max_pixels)
    except ValueError as error:
        raise BadRequest(f"params.context.result: {error}.") from None


def _task(raw: object, project: int | None, config: LabelConfig, limits: Limits) -> Task:
    if not isinstance(raw, Mapping):
        return Task(None, project, problem="the task is not a JSON object")
    number = raw.get("id")
    id = number if is_id(number) else None
    own = raw.get("project")
    project = own if is_id(own) else project
    data = raw.get("data")
    if not isinstance(data, Mapping):
        return Task(id, project, problem=f"task {id} has no data")
    images, problem = _images(data, config, id)
    tag = config.image()
    return Task(
        id=id,
        project=project,
        images=images,
        image_url=images.get(tag.name, "") if tag else "",
        annotations=_sources("annotation", raw.get("annotations"), limits),
        drafts=_sources("draft", raw.get("drafts"), limits),
        predictions=_sources("prediction", raw.get("predictions"), limits),
        problem=problem,
    )


def _images(data: Mapping[str, Any], config: LabelConfig, id: int | None) -> tuple[dict[str, str], str | None]:
    images = {tag.name: url for tag in config.images if isinstance(url := data.get(tag.key), str) and url}
    tag = config.image() or (config.images[0] if config.images else None)
    if tag is None:
        return images, "the labeling config has no <Image> tag"
    if config.output() is None:
        return images, "the labeling config has no tag for masks (BrushLabels or PolygonLabels)"
    if tag.name not in images:
        if isinstance(data.get(tag.key), list):
            return images, f"task {id} has a list of images under {tag.key!r}; only single images are supported"
        return (
            images,
            f"task {id} has no image: its data has no text under {tag.key!r}, which the config's <Image> names",
        )
    return images, None


def _sources(kind: str, raw: object, limits: Limits) -> tuple[Source, ...]:
    items: Sequence[object] = raw if isinstance(raw, list) else ()
    return tuple(parse_source(kind, item, limits.max_pixels) for item in items if isinstance(item, Mapping))
