"""Everything a web process needs, put together once from the settings."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property

from maskloop.jobs.batches import Batches
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.labelstudio.interaction import GestureOptions
from maskloop.labelstudio.memory import LocalMemory, Memory
from maskloop.labelstudio.requests import Limits
from maskloop.learn.versions import Versions
from maskloop.ledger import Ledger
from maskloop.queue.job import Job, JobQueue
from maskloop.segment.catalog import Catalog
from maskloop.settings import Settings
from maskloop.web.ahead import Ahead
from maskloop.web.inbox import Inbox
from maskloop.web.recorder import Recorder

log = logging.getLogger(__name__)

MEGA = 1_000_000

LEDGER_PATIENCE = 1.0
"""Seconds for which a request waits for a database that is away: Label Studio gives a webhook no more."""


@dataclass(frozen=True)
class Services:
    """What the routes use. Built by :func:`embedded` or :func:`scaled_out`."""

    settings: Settings
    queue: JobQueue
    catalog: Catalog
    versions: Versions
    ledger: Ledger
    memory: Memory
    recorder: Recorder
    ahead: Ahead
    batches: Batches
    inbox: Inbox
    client: LabelStudioClient | None = None
    """Label Studio's API, None without an address and a token."""

    @cached_property
    def limits(self) -> Limits:
        return Limits(max_tasks=self.settings.max_tasks, max_pixels=self.settings.max_image_megapixels * MEGA)

    @cached_property
    def gestures(self) -> GestureOptions:
        return GestureOptions(
            box_memory_seconds=self.settings.box_memory_seconds, correct_in_place=self.settings.correct_in_place
        )

    def close(self) -> None:
        self.ahead.close()
        self.inbox.close()
        self.batches.close()
        self.queue.close()
        self.recorder.close()
        self.ledger.close()


def label_studio(settings: Settings) -> LabelStudioClient | None:
    key = settings.label_studio_api_key.get_secret_value()
    return LabelStudioClient(settings.label_studio_url, key) if settings.label_studio_url and key else None


def embedded(settings: Settings) -> Services:
    """One process: the model runs on a thread of its own, the ledger is a file."""
    from maskloop.jobs.handlers import build_workbench, handlers
    from maskloop.queue.local import LocalQueue

    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if settings.device.startswith("cuda"):  # one that is not there would fail every click; seeing that takes torch
        from maskloop.segment.device import device

        device(settings.device)
    bench = build_workbench(settings)
    bench.catalog.find(settings.model)
    queue = LocalQueue(handlers(bench), limit=settings.max_queue, first=Job("warm-up", {}))
    return _assemble(settings, queue, bench.catalog, bench.versions, LocalMemory())


def scaled_out(settings: Settings) -> Services:
    """The web process of many: jobs go to workers through Redis, the model is elsewhere."""
    from maskloop.queue.memory import RedisMemory
    from maskloop.queue.outage import Outage
    from maskloop.queue.redis import RedisQueue

    url, outage = settings.redis_url.get_secret_value(), Outage()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    catalog = Catalog(settings.models_dir, settings.data_dir)
    versions = Versions(settings.data_dir / "versions", catalog.version(settings.model))
    queue = RedisQueue(url, settings.max_queue, outage)
    return _assemble(settings, queue, catalog, versions, RedisMemory(url, outage))


def _assemble(settings: Settings, queue: JobQueue, catalog: Catalog, versions: Versions, memory: Memory) -> Services:
    ledger = Ledger(settings.ledger_url, LEDGER_PATIENCE)
    client = label_studio(settings)
    return Services(
        settings=settings,
        queue=queue,
        catalog=catalog,
        versions=versions,
        ledger=ledger,
        memory=memory,
        recorder=Recorder(ledger),
        ahead=Ahead(queue, client, settings.prepare_ahead),
        batches=Batches(
            queue, ledger, client, settings.batch_deadline_seconds, live=versions.live_labels, learned=versions.list
        ),
        inbox=Inbox(ledger, client, settings.max_image_megapixels * MEGA),
        client=client,
    )


def build(settings: Settings) -> Services:
    """The shape the settings ask for: is there a Redis?"""
    return scaled_out(settings) if settings.redis_url.get_secret_value() else embedded(settings)
