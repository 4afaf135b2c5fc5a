"""The Flask app: Label Studio's ML-backend contract and a page for people."""

from __future__ import annotations

import logging

from flask import Flask, Response, request

from maskloop import metrics
from maskloop.web import auth, contract, errors, predict, status, webhook
from maskloop.web.services import Services

log = logging.getLogger(__name__)


def create_app(services: Services) -> Flask:
    """The whole app around ready services. Imports no torch."""
    settings = services.settings
    app = Flask("maskloop.web")
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_mb * 1_000_000
    app.json.sort_keys = False  # type: ignore[attr-defined]
    errors.install(app, settings.max_body_mb)

    @app.before_request
    def _authorize() -> Response | None:
        return auth.check(request, settings)

    @app.after_request
    def _count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "unknown"
        metrics.REQUESTS.labels(route, response.status_code).inc()
        return response

    for room in (contract, predict, webhook, status):
        app.register_blueprint(room.routes(services))
    return app
