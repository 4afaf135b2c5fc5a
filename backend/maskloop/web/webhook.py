"""POST /webhook: what happened in Label Studio, recorded and acknowledged at once."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from maskloop.labelstudio.events import Ignored, StartTraining, parse_event
from maskloop.labelstudio.requests import BadRequest
from maskloop.web import auth
from maskloop.web.body import json_object
from maskloop.web.errors import ClientError
from maskloop.web.services import Services


def routes(services: Services) -> Blueprint:
    blueprint = Blueprint("webhook", __name__)

    @blueprint.post("/webhook")
    def webhook() -> Response:
        """An event. Label Studio waits for the answer inside the annotator's Submit, at most one second."""
        trust = auth.webhook_trust(request, services.settings)
        if trust is auth.Trust.REFUSED:
            return auth.unauthorized(
                f"A webhook must carry the header {auth.SECRET_HEADER} (MASKLOOP_WEBHOOK_SECRET) or the Basic auth of "
                "the connection. Label Studio sends neither by itself: `maskloop doctor --fix` adds it to the webhook."
            )
        try:
            event = parse_event(json_object(request), services.limits.max_pixels)
        except BadRequest as error:
            raise ClientError(str(error)) from None
        if isinstance(event, Ignored):
            return jsonify({"status": "ignored"})
        if isinstance(event, StartTraining):
            if trust is not auth.Trust.PROVEN:
                return auth.unauthorized("Start Training must carry the Basic auth of the connection.")
            training = services.ledger.request_training(event.project, "Start Training")
            return jsonify({"status": "ok", "job": f"training-{training.id}"})
        services.inbox.take(event, proven=trust is auth.Trust.PROVEN)
        return jsonify({"status": "ok"})

    return blueprint
