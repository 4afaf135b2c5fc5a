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
"""Clicks a worker on a GPU takes from Redis at once. They are decoded and answered one after the other."""


def worker(
    count: Annotated[int, typer.Option(min=1, help="Processes; on a machine with GPUs, one for each.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; by default MASKLOOP_DEVICE.")] = "",
    check: Annotated[bool, typer.Option("--check", help="Only tell whether this host's worker is ready.")] = False,
) -> None:
    """Run the model for the web processes: needs REDIS_URL, and the same settings as they have.

    This process only watches: it starts the worker processes, restarts one that ends, and kills
    one that hangs. Ctrl+C or SIGTERM lets each finish what it is doing.
    """
    from maskloop.cli.serve import configure_logging
    from maskloop.queue.supervisor import Supervisor
    from maskloop.settings import Settings

    settings = Settings()
    configure_logging(settings.log_level)
    if not settings.redis_url.get_secret_value():
        typer.secho(
            "REDIS_URL is not set. A worker takes its jobs from Redis, e.g. REDIS_URL=redis://localhost:6379/0. "
            "Without Redis, `maskloop serve` alone does everything in one process.",
            fg="red",
            err=True,
        )
        raise typer.Exit(2)
    if check:
        raise typer.Exit(0 if ready_here(settings.redis_url.get_secret_value()) else 1)
    Supervisor(work, (count, device or settings.device), count, settings.job_limit_seconds).run()


def ready_here(url: str) -> bool:
    """Whether a worker of this host takes jobs: what a container's health check asks."""
    import socket

    from redis.exceptions import RedisError

    from maskloop.queue import wire
    from maskloop.queue.affinity import live_workers

    try:
        said = live_workers(wire.connect(url)).values()
    except RedisError:
        return False
    return any(worker["ready"] and worker["host"] == socket.gethostname() for worker in said)


def work(index: int, stamp: Stamp, count: int, device: str) -> None:
    """One worker process: load, warm up, test itself, and only then take jobs."""
    from maskloop.cli.serve import configure_logging
    from maskloop.jobs.handlers import build_workbench, handlers
    from maskloop.queue import wire
    from maskloop.queue.store import RedisStore
    from maskloop.queue.supervisor import end_with_parent
    from maskloop.queue.worker import GpuWorker, keep_working
    from maskloop.settings import Settings

    end_with_parent()
    settings = Settings()
    configure_logging(settings.log_level)
    url = settings.redis_url.get_secret_value()
    wire.connect(url).ping()  # before the long way through the model, not after
    settings = settings.model_copy(update=device_settings(settings, index, count, device))
    began = time.monotonic()
    bench = build_workbench(settings, RedisStore(url, settings.embedding_disk_mb * MEGA))
    bench.warm_up()

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
    log = logging.getLogger("maskloop.worker")
    log.info("ready with %s on %s after %.1f s", bench.base_version, settings.device, time.monotonic() - began)
    keep_working(make)


def device_settings(settings: Settings, index: int, count: int, device: str) -> dict[str, str | int]:
    """Which GPU is this process's, and how many of the machine's cores."""
    import torch

    if device in ("auto", "cuda"):
        gpus = torch.cuda.device_count()
        if device == "cuda" and not gpus:
            raise RuntimeError("MASKLOOP_DEVICE=cuda, but torch sees no CUDA device; use auto or cpu")
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
