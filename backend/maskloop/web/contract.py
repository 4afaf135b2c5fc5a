"""The small routes of Label Studio's contract: answered at once, whatever the model is doing."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import NotFound

from maskloop import __version__
from maskloop.labelstudio.requests import BadRequest, is_id, project_id
from maskloop.web.body import json_object
from maskloop.web.errors import ClientError
from maskloop.web.services import Services


def routes(services: Services) -> Blueprint:
    blueprint = Blueprint("contract", __name__)

    @blueprint.get("/health")
    def health() -> Response:
        """Alive. Label Studio gives it one second, several times a minute."""
        return jsonify({"status": "UP", "model_class": "MaskLoop", "version": __version__})

    @blueprint.post("/setup")
    def setup() -> Response:
        """The version that predictions of this project carry; Label Studio's bookkeeping depends on it."""
        try:
            project = project_id(json_object(request).get("project"))
        except BadRequest as error:
            raise ClientError(str(error)) from None
        if project is not None:
            services.inbox.meet(project)
        return jsonify({"model_version": services.versions.current(project)})

    @blueprint.get("/versions")
    def versions() -> Response:
        """The versions of one project (``?project=``), the newest first."""
        project = request.args.get("project", type=int)
        learned = [] if not is_id(project) else [version.name for version in services.versions.list(project)]
        return jsonify({"versions": [*reversed(learned), services.versions.base]})

    @blueprint.post("/train")
    def train() -> Response:
        """Train a project now: ``{"project": 1}``. Label Studio itself asks by webhook."""
        try:
            project = project_id(json_object(request).get("project"))
        except BadRequest as error:
            raise ClientError(str(error)) from None
        if project is None:
            raise ClientError('Say which project to train: {"project": 1}.')
        training = services.ledger.request_training(project, "asked for")
        return jsonify({"job": f"training-{training.id}"})

    @blueprint.route("/job_status", methods=["GET", "POST"])
    def job_status() -> Response:
        """How far a training or a batch is: ``?job=training-1`` or ``{"job": ...}``."""
        job = request.args.get("job") or (json_object(request).get("job") if request.method == "POST" else None)
        if not isinstance(job, str):
            raise ClientError("Name the job: ?job=training-1, as /train or START_TRAINING answered it.")
        kind, _, number = job.partition("-")
        if kind == "training" and number.isdecimal() and len(number) < 20 and is_id(int(number)):
            training = services.ledger.training(int(number))
            if training is not None:
                return jsonify(
                    {
                        "job": job,
                        "status": training.state.value,
                        "progress": training.progress,
                        "note": training.note,
                        "model_version": training.version,
                    }
                )
        batch = services.ledger.progress(job)
        if batch is None:
            raise NotFound(f"There is no job {job!r}.")
        state = "done" if batch.finished else "running"
        return jsonify({"job": job, "status": state, "total": batch.total, "done": batch.done, "failed": batch.failed})

    return blueprint
