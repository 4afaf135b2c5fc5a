"""What a person wants to see, what an orchestrator asks, what Prometheus scrapes."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, jsonify, render_template, request

from maskloop import __version__, metrics
from maskloop.ledger import Training
from maskloop.queue.job import JobError
from maskloop.segment.card import damage
from maskloop.web.services import Services

STARTED = time.time()


def routes(services: Services) -> Blueprint:
    blueprint = Blueprint("status", __name__, template_folder="templates")
    blueprint.add_app_template_filter(duration)
    blueprint.add_app_template_filter(ago)
    calls_before = metrics.requests_of("/setup")

    @blueprint.get("/")
    def page() -> str:
        """The status page."""
        called = metrics.requests_of("/setup") > calls_before
        return render_template(
            "status.html", state=state(services), called=called, address=request.host_url.rstrip("/")
        )

    @blueprint.get("/status.json")
    def as_json() -> Response:
        """What the status page shows, as JSON."""
        return jsonify(state(services))

    @blueprint.get("/live")
    def live() -> dict[str, str]:
        """For orchestrators: this process answers."""
        return {"status": "live"}

    @blueprint.get("/ready")
    def ready() -> tuple[Response, int]:
        """For orchestrators: 200 when a warm worker takes clicks, else 503 and why."""
        why = services.queue.ready()
        return (jsonify({"status": "ready"}), 200) if why is None else (jsonify({"status": why}), 503)

    @blueprint.get("/metrics")
    def prometheus() -> Response:
        """Prometheus' text format."""
        return Response(metrics.text(snapshot(services)), mimetype="text/plain; version=0.0.4")

    return blueprint


def snapshot(services: Services) -> metrics.Snapshot:
    """What is so at the moment, for /metrics."""
    depths, ages = {}, {}
    with contextlib.suppress(JobError):  # Redis is away: the other figures are still worth having
        depths, ages = services.queue.depths(), services.queue.ages()
    promotions = Counter(
        (str(project), promotion.by)
        for project in known_projects(services)
        for promotion in services.ledger.promotions(project)
    )
    return metrics.Snapshot(depths, ages, services.ledger.tasks_by_state(), promotions)


def state(services: Services) -> dict[str, Any]:
    """Everything the status page shows."""
    try:
        queue: dict[str, Any] = {"why_not_ready": services.queue.ready(), "lanes": services.queue.depths()}
    except JobError as error:
        queue = {"why_not_ready": str(error), "lanes": {}}
    return {
        "version": __version__,
        "uptime_seconds": round(time.time() - STARTED),
        "model": services.settings.model,
        "base_version": services.versions.base,
        "shape": "scaled out" if services.settings.redis_url.get_secret_value() else "embedded",
        "label_studio": services.settings.label_studio_url or None,
        "has_token": services.client is not None,
        "train_after": services.settings.train_after if services.settings.train else None,
        "queue": queue,
        "latency": latency(),
        "latency_of": "all web processes of this machine" if metrics.shared() else "this web process",
        "projects": [project_state(services, project) for project in known_projects(services)],
        "batches": [
            {"batch": b.batch, "project": b.project, "total": b.total, "done": b.done, "failed": b.failed}
            for b in services.ledger.batches(limit=10)
        ],
    }


def latency() -> list[dict[str, Any]]:
    """Median and 95th percentile of each stage of a click, in milliseconds (upper bucket bounds)."""
    rows = []
    for stage in ("waiting", "image", "encode", "decode", "rle", "total"):

        def of_clicks(labels: Mapping[str, str], stage: str = stage) -> bool:
            return labels["stage"] == stage and labels["kind"] != metrics.BATCH

        median, high = metrics.quantiles(metrics.STAGES, of_clicks, (0.5, 0.95))
        if median is not None and high is not None:
            rows.append({"stage": stage, "p50_ms": 1000 * median, "p95_ms": 1000 * high})
    return rows


def duration(seconds: float) -> str:
    """A span of time in its largest whole unit: ``3 min``."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= (2 if unit == "days" else 1) * length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def ago(at: float) -> str:
    """How long ago a time (seconds since the epoch) was."""
    return f"{duration(max(0.0, time.time() - at))} ago"


def known_projects(services: Services) -> list[int]:
    return sorted({*services.ledger.projects(), *services.versions.projects()})


def project_state(services: Services, project: int) -> dict[str, Any]:
    current = services.versions.current(project)
    folder = services.versions.folder(current)
    return {
        "project": project,
        "current": current,
        "damage": damage(folder) if folder else "",
        "live_labels": services.versions.live_labels(current),
        "submissions": len(services.ledger.known_forms(project)),
        "new_submissions": services.ledger.new_submissions(project),
        "versions": [version.name for version in services.versions.list(project)],
        "trainings": [training_state(training) for training in services.ledger.trainings(project, limit=5)],
        "promotions": [{"version": p.version, "by": p.by, "at": p.at} for p in services.ledger.promotions(project)[:5]],
    }


def training_state(training: Training) -> dict[str, Any]:
    return {
        "id": training.id,
        "state": training.state.value,
        "trigger": training.trigger,
        "progress": training.progress,
        "note": training.note,
        "version": training.version,
        "finished_at": training.finished_at,
    }
