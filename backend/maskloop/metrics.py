"""What MaskLoop counts. Scrape each process, or let those of one machine share PROMETHEUS_MULTIPROC_DIR."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.samples import Sample

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.3, 2.5, 5, 10, 20, 40)
IOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
CLICKS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20)

REQUESTS = Counter("maskloop_requests_total", "HTTP requests.", ["route", "status"])
BATCH = "batch"
"""The kind of a task of a batch; the others are what an annotator did."""

ANSWERS = Counter(
    "maskloop_answers_total", "Prompts and tasks of batches answered, by kind and model version.", ["kind", "version"]
)
FAILURES = Counter("maskloop_failures_total", "Prompts and tasks of batches without a mask, by cause.", ["cause"])
STAGES = Histogram(
    "maskloop_stage_seconds",
    "Time of one prompt or task of a batch: waiting, image, encode, decode, rle, total.",
    ["stage", "kind"],
    buckets=SECONDS,
)
EMBEDDINGS = Counter(
    "maskloop_embeddings_total", "Where an embedding came from: memory, disk, shared (Redis) or encode.", ["tier"]
)
CLICKS_PER_MASK = Histogram("maskloop_clicks_per_mask", "Clicks an accepted mask took.", ["project"], buckets=CLICKS)
SUBMISSION_IOU = Histogram(
    "maskloop_submission_iou", "IoU of the last predicted mask with the submitted one.", ["project"], buckets=IOU
)
SUBMISSIONS = Counter("maskloop_submissions_total", "Submissions recorded.", ["project"])


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What is so at the moment, whichever process tells it: read anew for each scrape, so it is never stale.

    ``depths`` and ``ages`` (seconds) are those of the lanes, empty while Redis is away. ``tasks`` are those of all
    batches by state, ``promotions`` are counted by project and by whom.
    """

    depths: Mapping[str, int] = field(default_factory=dict)
    ages: Mapping[str, float] = field(default_factory=dict)
    tasks: Mapping[str, int] = field(default_factory=dict)
    promotions: Mapping[tuple[str, str], int] = field(default_factory=dict)

    def collect(self) -> Iterator[Metric]:
        """As prometheus-client asks a collector."""
        depth = GaugeMetricFamily("maskloop_queue_depth", "Waiting jobs by lane.", labels=["lane"])
        age = GaugeMetricFamily("maskloop_queue_age_seconds", "Age of the oldest waiting job by lane.", labels=["lane"])
        tasks = GaugeMetricFamily("maskloop_batch_tasks", "Tasks of batches under way by state.", labels=["state"])
        ended = CounterMetricFamily("maskloop_batch_tasks_ended", "Tasks of batches that ended.", labels=["state"])
        promotions = CounterMetricFamily(
            "maskloop_promotions", "Versions promoted or rolled back.", labels=["project", "kind"]
        )
        for family, values in ((depth, self.depths), (age, self.ages)):
            for lane, value in values.items():
                family.add_metric([lane], value)
        for state, count in self.tasks.items():
            (ended if state in ("done", "failed") else tasks).add_metric([state], count)
        for labels, count in self.promotions.items():
            promotions.add_metric(labels, count)
        yield from (depth, age, tasks, ended, promotions)


def observe_stages(kind: str, seconds: dict[str, float]) -> None:
    """Record the stages one answer went through."""
    for stage, value in seconds.items():
        STAGES.labels(stage, kind).observe(value)


def requests_of(route: str) -> int:
    """How many requests of a route were answered."""
    samples = (sample for sample in _samples(REQUESTS) if sample.name.endswith("_total"))
    return sum(int(sample.value) for sample in samples if sample.labels["route"] == route)


def text(snapshot: Snapshot) -> bytes:
    """Everything in Prometheus' text format."""
    now = CollectorRegistry()
    now.register(snapshot)
    return generate_latest(_registry()) + generate_latest(now)


def shared() -> bool:
    """Whether the processes of this machine count together."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def quantiles(
    histogram: Histogram, which: Callable[[Mapping[str, str]], bool], wanted: Iterable[float]
) -> list[float | None]:
    """Upper bucket bounds at the wanted quantiles of the series whose labels fit, None without samples."""
    buckets: dict[float, float] = {}
    for sample in _samples(histogram):
        if sample.name.endswith("_bucket") and which(sample.labels):
            bound = float(sample.labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + sample.value
    total = buckets.get(float("inf"), 0.0)
    if not total:
        return [None for _ in wanted]
    return [next(bound for bound in sorted(buckets) if buckets[bound] >= q * total) for q in wanted]


def _registry() -> CollectorRegistry:
    """What this process counted or, where they share a folder, all of them."""
    if not shared():
        return REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def _samples(metric: Counter | Histogram) -> Iterator[Sample]:
    (own,) = metric.collect()
    families = _registry().collect() if shared() else [own]
    return (sample for family in families if family.name == own.name for sample in family.samples)
