"""Every failure as JSON that says what to do; never a stack trace to the caller."""

from __future__ import annotations

import logging

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from maskloop.ledger import DatabaseError
from maskloop.queue.job import Busy, Expired, JobError

log = logging.getLogger(__name__)


class ClientError(Exception):
    """The caller sent something that cannot be used; answered with 400 and the message."""


def answer(status: int, message: str) -> Response:
    response = jsonify({"error": message})
    response.status_code = status
    return response


def install(app: Flask, max_body_mb: int) -> None:
    """Register the handlers on the app."""

    @app.errorhandler(ClientError)
    def _client(error: ClientError) -> Response:
        return answer(400, str(error))

    @app.errorhandler(Busy)
    def _busy(error: Busy) -> Response:
        response = answer(503, str(error))
        response.headers["Retry-After"] = str(error.retry_after)
        return response

    @app.errorhandler(Expired)
    def _expired(error: Expired) -> Response:
        response = answer(503, str(error))
        response.headers["Retry-After"] = "1"
        return response

    @app.errorhandler(DatabaseError)
    def _database(error: DatabaseError) -> Response:
        log.error("the ledger's database does not work: %s", error.orig)
        response = answer(
            503, f"The ledger's database (DATABASE_URL, or MASKLOOP_DATA_DIR) does not work: {error.orig}."
        )
        response.headers["Retry-After"] = "5"
        return response

    @app.errorhandler(JobError)
    def _job(error: JobError) -> Response:
        return answer(502, str(error))

    @app.errorhandler(RequestEntityTooLarge)
    def _too_large(_: RequestEntityTooLarge) -> Response:
        return answer(413, f"The body is larger than {max_body_mb} MB (MASKLOOP_MAX_BODY_MB).")

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        return answer(error.code or 500, error.description or error.name)

    @app.errorhandler(Exception)
    def _unexpected(error: Exception) -> Response:
        log.exception("unexpected failure", exc_info=error)
        return answer(500, f"Unexpected {type(error).__name__}; the log has the details.")
