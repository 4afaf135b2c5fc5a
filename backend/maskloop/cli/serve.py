"""``maskloop serve``: the server, in the shape the settings ask for."""

from __future__ import annotations

import logging
import os
import signal
from typing import Annotated

import typer

CONNECTIONS = 1000
"""Open at once. Browsers and Label Studio keep idle ones open: at waitress' own limit of 100 the next person waits."""


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; by default decided by HOST and credentials.")] = "",
    port: Annotated[int, typer.Option(help="Port; by default PORT or 9090.")] = 0,
) -> None:
    """Serve the ML backend that Label Studio connects to.

    With nothing configured everything runs from here, on the CPU, for this machine only.
    With REDIS_URL set it is the web process of the scaled-out shape and `maskloop worker` does the work.
    """
    from maskloop.log import configure
    from maskloop.settings import Settings

    given = {"host": host or None, "port": port or None}
    settings = Settings(**{name: value for name, value in given.items() if value})  # type: ignore[arg-type]
    configure(settings.log_level)
    refuse_open_door(settings.listen_host, settings.has_credentials)

    from waitress import create_server

    from maskloop.segment.card import ModelError
    from maskloop.web import services as shapes
    from maskloop.web.app import create_app

    try:
        services = shapes.build(settings)
    except ModelError as error:
        typer.secho(f"MASKLOOP_MODEL={settings.model}: {error}", fg="red", err=True)
        raise typer.Exit(2) from None
    try:
        server = create_server(
            create_app(services),
            host=settings.listen_host,
            port=settings.port,
            threads=settings.threads,
            max_request_body_size=settings.max_body_mb * 1_000_000,
            connection_limit=CONNECTIONS,
            backlog=CONNECTIONS,
            asyncore_use_poll=True,  # select() ends at descriptor 1024
            ident="maskloop",
        )
    except (OSError, ValueError) as error:
        services.close()
        typer.secho(
            f"Cannot listen on {settings.listen_host}:{settings.port}: {error}. Another program may listen there: "
            "choose another PORT. HOST is an address of this machine.",
            fg="red",
            err=True,
        )
        raise typer.Exit(2) from None
    log = logging.getLogger("maskloop")
    log.info("MaskLoop serves %s at http://%s:%d", services.versions.base, settings.listen_host, settings.port)
    log.info("Connect it in Label Studio: project > Settings > Model > Connect Model, with 'Interactive' on")
    log.info("Process %d; Ctrl+C stops it", os.getpid())
    signal.signal(signal.SIGTERM, _stop)
    trainer = None
    if not settings.redis_url.get_secret_value():
        from maskloop.jobs import trainer as trainers

        trainer = trainers.Companion(settings)
    try:
        server.run()
    finally:
        log.info("stopping: finishing what is running")
        if trainer is not None:
            trainer.stop()
        services.close()


def _stop(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def refuse_open_door(host: str, has_credentials: bool) -> None:
    """Exit with an explanation when other machines could reach an unprotected server."""
    if host not in LOOPBACK and not has_credentials:
        typer.secho(
            f"HOST={host} would let other machines in without a password. "
            "Set BASIC_AUTH_USER and BASIC_AUTH_PASS (and enter them in Label Studio's connection form), "
            "or leave HOST unset to serve this machine only.",
            fg="red",
            err=True,
        )
        raise typer.Exit(2)


def register(app: typer.Typer, bench: typer.Typer) -> None:
    app.command()(serve)
