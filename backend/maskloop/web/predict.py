"""POST /predict: a click, a box, a batch, or the first sign that somebody opened a task."""

from __future__ import annotations

import logging
import time
from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from maskloop import metrics
from maskloop.jobs.predict import PredictAnswer
from maskloop.jobs.predict import PredictRequest as PredictJob
from maskloop.labelstudio import regions
from maskloop.labelstudio.interaction import Interaction, Nothing, interpret, opened
from maskloop.labelstudio.requests import BadRequest, PredictRequest, parse_predict
from maskloop.ledger import Prediction
from maskloop.queue.job import Busy, Expired, Job, JobError, Superseded
from maskloop.web.ahead import Opened
from maskloop.web.body import json_object
from maskloop.web.errors import ClientError
from maskloop.web.services import Services

log = logging.getLogger(__name__)


def routes(services: Services) -> Blueprint:
    blueprint = Blueprint("predict", __name__)

    @blueprint.post("/predict")
    def predict() -> Response:
        """One entry per task, in order, always."""
        try:
            asked = parse_predict(json_object(request), services.limits)
        except BadRequest as error:
            raise ClientError(str(error)) from None
        version = services.versions.current(asked.project)
        if asked.interactive:
            return jsonify({"results": [click(services, asked, version)]})
        opened(asked, services.memory)
        return jsonify({"results": batch(services, asked, version)})

    @blueprint.after_request
    def timing(response: Response) -> Response:
        """Where the time of a click went, in the standard header."""
        if stages := g.get("stages"):
            response.headers["Server-Timing"] = ", ".join(f"{name};dur={1000 * s:.2f}" for name, s in stages.items())
        return response

    return blueprint


def batch(services: Services, asked: PredictRequest, version: str) -> list[Any]:
    """The answer to "Retrieve predictions", and to a task that is merely opened: one entry per task, in order.

    An empty list says that there is no prediction: Label Studio stores nothing and asks again,
    which is how the next opening of the task is noticed.
    """
    image = asked.config.image()
    if len(asked.tasks) == 1 and image is not None:
        (task,) = asked.tasks
        if task.problem is None and task.id is not None and task.project is not None:
            services.ahead.opened(Opened(task.project, task.id, task.image_url, image.key, version))
    return services.batches.answer(asked, version)


def click(services: Services, asked: PredictRequest, version: str) -> dict[str, Any]:
    """The answer to an interactive prompt: a region, or an empty result when there is nothing to draw.

    Raises JobError when there should have been a mask: Label Studio shows no message for a
    failure, but its log and the browser's network tab then say why.
    """
    found = interpret(asked, services.memory, services.gestures)
    if isinstance(found, Nothing):
        metrics.FAILURES.labels("nothing to do").inc()
        return regions.prediction([], version, 0.0)
    job = predict_job(found, version)
    began = time.perf_counter()
    try:
        answer = PredictAnswer.from_json(services.queue.call(job, services.settings.deadline_seconds))
    except Superseded:
        metrics.FAILURES.labels("superseded").inc()
        return regions.prediction([], version, 0.0)
    except JobError as error:
        metrics.FAILURES.labels(cause(error)).inc()
        log.warning("task %s: %s", found.task.id, error)
        raise
    observe(found, answer, time.perf_counter() - began)
    drawn = regions.mask_regions(found.target, answer.rle, answer.polygons, answer.score)
    found.remember(services.memory, answer.rle)
    record(services, found, answer)
    return regions.prediction(drawn, answer.version, answer.score)


def predict_job(found: Interaction, version: str) -> Job:
    payload = PredictJob(
        url=found.image_url,
        task=found.task.id,
        version=version,
        prompt=found.prompt,
        size=found.target.size,
        base=found.base,
        output="polygon" if found.target.polygon else "brush",
    ).to_json()
    return Job("predict", payload, group=found.group, parts=found.parts, affinity=found.image_url)


def cause(error: JobError) -> str:
    return {Busy: "busy", Expired: "expired"}.get(type(error), "failed")


def observe(found: Interaction, answer: PredictAnswer, elapsed: float) -> None:
    seconds = {**answer.seconds, "waiting": max(0.0, elapsed - answer.seconds["total"]), "total": elapsed}
    g.stages = seconds
    metrics.observe_stages(kind(found), seconds)
    metrics.EMBEDDINGS.labels(answer.tier).inc()
    metrics.ANSWERS.labels(kind(found), answer.version).inc()


def kind(found: Interaction) -> str:
    """What the annotator did, for the metrics and the ledger."""
    if found.base is not None:
        return "correction"
    if found.prompt.box is not None:
        return "box"
    return "scribble" if found.prompt.scribbles else "click"


def record(services: Services, found: Interaction, answer: PredictAnswer) -> None:
    task, prompt = found.task, found.prompt
    if task.project is None or task.id is None:
        return
    services.recorder.record(
        Prediction(
            project=task.project,
            task=task.id,
            region=found.target.id,
            prompt=kind(found),
            clicks=len(prompt.points) + (prompt.box is not None) + len(prompt.scribbles),
            version=answer.version,
            score=answer.score,
            label=found.target.label,
            rle=answer.rle or None,
            at=time.time(),
        )
    )
