"""The server that ``label-studio-ml start FOLDER`` runs, and the ``app`` for gunicorn and uWSGI."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

# Run as a script, or by a WSGI server, from any folder.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from flask import Flask, Response, request
from label_studio_ml.api import init_app

if TYPE_CHECKING:
    from maskloop.adapter.model import FORWARDED, MaskLoop, server
else:
    from model import FORWARDED, MaskLoop, server


def create(settings: dict[str, str]) -> Flask:
    """label-studio-ml's own app, whose every request is answered by MaskLoop.

    The hook comes first, before label-studio-ml checks a password that Label Studio does not
    send with its webhooks, and before its own routes, which know neither /versions nor /job_status.
    """
    server.start(settings)
    app: Flask = init_app(model_class=MaskLoop)
    hooks: Any = app.before_request_funcs
    hooks.setdefault(None, []).insert(0, forward)
    return app


def forward() -> Response:
    """Hand the request on as it came, and the answer back."""
    headers = {name: request.headers[name] for name in FORWARDED if name in request.headers}
    path = request.full_path if request.query_string else request.path
    answer = server.call(request.method, path, request.get_data(), headers)
    kind = answer.headers.get("Content-Type", "application/json")
    response = Response(answer.content, status=answer.status_code, content_type=kind)
    for name in ("Retry-After", "Server-Timing", "WWW-Authenticate"):
        if name in answer.headers:
            response.headers[name] = answer.headers[name]
    return response


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The flags of every label-studio-ml backend. ``--with KEY=VALUE`` sets a MaskLoop setting."""
    parser = argparse.ArgumentParser(description="MaskLoop under label-studio-ml")
    parser.add_argument("-p", "--port", type=int, default=int(os.environ.get("PORT", "9090")))
    parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"))
    parser.add_argument("--kwargs", "--with", nargs="+", metavar="KEY=VAL", type=pair, default=[])
    parser.add_argument("-d", "--debug", action="store_true")
    parser.add_argument("--log-level", choices=["DEBUG", "INFO", "WARNING", "ERROR"], default=None)
    parser.add_argument("--model-dir", default=os.environ.get("MODEL_DIR"))
    parser.add_argument("--check", action="store_true", help="make a model before serving")
    for what in ("user", "pass"):
        parser.add_argument(f"--basic-auth-{what}", default=os.environ.get(f"ML_SERVER_BASIC_AUTH_{what.upper()}"))
    return parser.parse_args(arguments)


def pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return name, value


def settings_of(arguments: argparse.Namespace) -> dict[str, str]:
    """The flags as MaskLoop's environment."""
    given = {
        "MODEL_DIR": arguments.model_dir,
        "LOG_LEVEL": "DEBUG" if arguments.debug else arguments.log_level,
        "BASIC_AUTH_USER": arguments.basic_auth_user,
        "BASIC_AUTH_PASS": arguments.basic_auth_pass,
    }
    extra = {name if name.isupper() else f"MASKLOOP_{name.upper()}": value for name, value in arguments.kwargs}
    return {**{name: value for name, value in given.items() if value}, **extra}


def main() -> None:
    arguments = parse()
    logging.basicConfig(level=arguments.log_level or os.environ.get("LOG_LEVEL", "INFO"))
    settings = settings_of(arguments)
    has_password = bool(settings.get("BASIC_AUTH_PASS") or os.environ.get("BASIC_AUTH_PASS"))
    if arguments.host not in ("127.0.0.1", "localhost", "::1") and not has_password:
        sys.exit(
            f"--host {arguments.host} would let other machines in without a password: set BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS, and enter them in Label Studio's connection form."
        )
    if arguments.check:
        MaskLoop()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the server behind it ends, too
    # No debugger and no reloader: they would start the server behind it twice, and let strangers run code.
    create(settings).run(host=arguments.host, port=arguments.port, debug=False, threaded=True)


if __name__ == "__main__":
    main()
else:
    app = create({})
