"""Every job a worker knows, by name, and the workbench they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from maskloop.jobs.preannotate import preannotate
from maskloop.jobs.prepare import prepare
from maskloop.jobs.proposals import Proposals
from maskloop.jobs.together import predict_together
from maskloop.jobs.workbench import Workbench
from maskloop.labelstudio.fetch import FetchOptions
from maskloop.labelstudio.images import ImageAway, ImageError, ImageStore
from maskloop.learn.versions import Versions
from maskloop.queue.job import Away, Handler, JobError, Payload, Result
from maskloop.segment.card import ModelError
from maskloop.segment.catalog import Catalog
from maskloop.segment.embeddings import EmbeddingCache, SharedStore
from maskloop.settings import Settings

MEGA = 1_000_000

FOR_THE_CALLER = (ImageError, ModelError, ValueError)
"""What these say is meant for the person who asked; anything else is a defect and is logged whole."""


def handlers(bench: Workbench) -> dict[str, Handler]:
    """The allow-list: a worker runs these and nothing else."""
    proposals = Proposals(bench)
    return {
        "predict": lambda payloads: told(predict_together(bench, payloads)),
        "prepare": one_by_one(partial(prepare, bench)),
        "preannotate": one_by_one(partial(preannotate, bench, proposals)),
        "warm-up": one_by_one(partial(_warm_up, bench)),
    }


def one_by_one(job: Callable[[Payload], Result]) -> Handler:
    """A handler of many payloads from a job for one: nobody waits for the payloads after theirs.

    A failure costs its own payload only.
    """

    def run(payloads: Sequence[Payload]) -> Iterator[Result | Exception]:
        for payload in payloads:
            try:
                outcome: Result | Exception = job(payload)
            except Exception as error:
                outcome = error
            yield outcome

    return lambda payloads: told(run(payloads))


def told(outcomes: Iterable[Result | Exception]) -> Iterator[Result | Exception]:
    """The outcomes, as JobErrors where they say what is wrong to the person who asked."""
    for outcome in outcomes:
        if isinstance(outcome, FOR_THE_CALLER):
            yield Away(str(outcome)) if isinstance(outcome, ImageAway) else JobError(str(outcome))
        else:
            yield outcome


def _warm_up(bench: Workbench, _: Payload) -> Result:
    bench.warm_up()
    return {"version": bench.base_version}


def build_workbench(settings: Settings, shared: SharedStore | None = None) -> Workbench:
    """A workbench as the settings want it. Loads no model yet and imports no torch."""
    catalog = Catalog(settings.models_dir, settings.data_dir)
    return Workbench(
        catalog=catalog,
        versions=Versions(settings.data_dir / "versions", catalog.version(settings.model)),
        images=ImageStore(
            FetchOptions(
                label_studio_url=settings.label_studio_url,
                api_key=settings.label_studio_api_key.get_secret_value(),
                allowed_hosts=settings.allowed_image_hosts,
                local_files_root=settings.local_files_root,
                max_bytes=settings.max_image_mb * MEGA,
                max_pixels=settings.max_image_megapixels * MEGA,
                timeout_seconds=settings.fetch_timeout_seconds,
                cache_dir=settings.data_dir / "images",
                cache_bytes=settings.image_disk_mb * MEGA,
            )
        ),
        embeddings=EmbeddingCache(
            settings.embedding_ram_mb * MEGA,
            settings.data_dir / "embeddings",
            settings.embedding_disk_mb * MEGA,
            shared,
        ),
        model=settings.model,
        device=settings.device,
        threads=settings.inference_threads,
    )
