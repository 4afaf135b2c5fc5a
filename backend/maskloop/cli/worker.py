"""``maskloop worker``: the processes that hold the model when there is a Redis."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from maskloop.queue.heartbeat import Stamp
    from maskloop.settings import Settings

MEGA = 1_000_000
TOGETHER = 8
"""Clicks a worker on a GPU takes from Redis at once, to decode them together; on a CPU it takes one at a time."""


def worker(
    count: Annotated[int, typer.Option(min=1, help="Processes; on a machine with GPUs, one for each.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; by default MASKLOOP_DEVICE.")] = "",
    check: Annotated[bool, typer.Option("--check", help="Only tell whether this host's worker is ready.")] = False,
) -> None:
    """Run the model for the web processes: needs REDIS_URL, and the same settings as they have.

    This process only watches: it starts the worker processes, restarts one that ends, and kills
    one that hangs. Ctrl+C or SIGTERM lets each finish what it is doing.
    """
    from maskloop.log import configure
    from maskloop.queue.supervisor import Supervisor
    from maskloop.segment.catalog import Catalog
    from maskloop.settings import Settings

    settings = Settings(**({"device": device} if device else {}))  # type: ignore[arg-type]
    configure(settings.log_level)
    if not settings.redis_url.get_secret_value():
        typer.secho(
            "REDIS_URL is not set. A worker takes its jobs from Redis, e.g. REDIS_URL=redis://localhost:6379/0. "
            "Without Redis, `maskloop serve` alone does everything.",
            fg="red",
            err=True,
        )
        raise typer.Exit(2)
    if check:
        if problem := not_ready(settings.redis_url.get_secret_value()):
            typer.secho(problem, fg="red", err=True)
            raise typer.Exit(1)
        typer.echo("ready")
        return
    Catalog(settings.models_dir, settings.data_dir).version(settings.model)  # a wrong name is said once, here
    raise typer.Exit(Supervisor(work, (count, settings.device), count, settings.job_limit_seconds).run())


def not_ready(url: str) -> str:
    """Why no worker of this host takes jobs, "" if one does: what a container's health check asks."""
    import socket

    from redis.exceptions import RedisError

    from maskloop.queue import wire
    from maskloop.queue.affinity import live_workers

    try:
        said = live_workers(wire.connect(url)).values()
    except RedisError as error:
        return f"Redis at {wire.without_password(url)} does not answer: {error}"
    here = [worker for worker in said if worker["host"] == socket.gethostname()]
    if any(worker["ready"] for worker in here):
        return ""
    return "the worker of this host is still loading its model" if here else "no worker runs on this host"


def work(index: int, stamp: Stamp, count: int, device: str) -> None:
    """One worker process: load, warm up, test itself, and only then take jobs."""
    from maskloop.jobs.handlers import build_workbench, handlers
    from maskloop.log import configure
    from maskloop.queue.store import RedisStore
    from maskloop.queue.supervisor import WRONG_SETTING, end_with_parent
    from maskloop.queue.worker import GpuWorker, keep_working
    from maskloop.segment.card import ModelError
    from maskloop.settings import Settings

    end_with_parent()
    settings = Settings()
    configure(settings.log_level)
    log = logging.getLogger("maskloop.worker")
    url = settings.redis_url.get_secret_value()
    _await_redis(url, stamp, log)  # before the long way through the model, not after
    began = time.monotonic()
    try:
        settings = settings.model_copy(update=device_settings(settings, index, count, device))
        bench = build_workbench(settings, RedisStore(url, settings.embedding_disk_mb * MEGA))
        bench.warm_up()
    except ModelError as error:
        log.error("%s", error)
        raise SystemExit(WRONG_SETTING) from None

    def make() -> GpuWorker:
        return GpuWorker(
            url,
            handlers(bench),
            stamp,
            about=lambda: {"versions": bench.loaded, "device": settings.device},
            free=free_device_memory,
            drain=TOGETHER if settings.device.startswith("cuda") else 1,
        )

    stamp.value = 0.0
    log.info("ready with %s on %s after %.1f s", bench.base_version, settings.device, time.monotonic() - began)
    keep_working(make)


def _await_redis(url: str, stamp: Stamp, log: logging.Logger) -> None:
    """Return when Redis answers; say once that it does not. The stamp says that this is no hanging."""
    from maskloop.queue import wire

    said = False
    while True:
        try:
            with wire.connect(url) as redis:
                redis.ping()
            return
        except wire.UNREACHABLE as error:
            if not said:
                log.warning("Redis at %s (REDIS_URL): %s; waiting for it", wire.without_password(url), error)
            said = True
        stamp.value = -time.monotonic()
        time.sleep(1.0)


def device_settings(settings: Settings, index: int, count: int, device: str) -> dict[str, str | int]:
    """Which GPU is this process's, and how many of the machine's cores. Raises ModelError without a GPU for "cuda"."""
    import torch

    from maskloop.segment.card import ModelError

    if device in ("auto", "cuda"):
        gpus = torch.cuda.device_count()
        if device == "cuda" and not gpus:
            raise ModelError("MASKLOOP_DEVICE=cuda, but torch sees no CUDA device; use auto or cpu")
        device = f"cuda:{index % gpus}" if gpus else "cpu"
    return {"device": device, "inference_threads": settings.inference_threads or max(1, (os.cpu_count() or 1) // count)}


def free_device_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def register(app: typer.Typer, bench: typer.Typer) -> None:
    app.command()(worker)
