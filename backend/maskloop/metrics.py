"""What MaskLoop counts. Safe with several processes: set PROMETHEUS_MULTIPROC_DIR, or scrape each one."""

from __future__ import annotations

import os
from collections.abc import Iterable

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.3, 2.5, 5, 10, 20, 40)
IOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
CLICKS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20)

REQUESTS = Counter("maskloop_requests_total", "HTTP requests.", ["route", "status"])
ANSWERS = Counter("maskloop_answers_total", "Masks answered, by prompt kind and model version.", ["kind", "version"])
FAILURES = Counter("maskloop_failures_total", "Prompts without a mask, by cause.", ["cause"])
STAGES = Histogram(
    "maskloop_stage_seconds",
    "Time of one prompt: waiting, image, encode, decode, rle, total.",
    ["stage", "kind"],
    buckets=SECONDS,
)
EMBEDDINGS = Counter(
    "maskloop_embeddings_total", "Where an embedding came from: ram, disk, shared or encode.", ["tier"]
)
DEPTH = Gauge("maskloop_queue_depth", "Waiting jobs by lane.", ["lane"], multiprocess_mode="mostrecent")
AGE = Gauge(
    "maskloop_queue_age_seconds", "Age of the oldest waiting job by lane.", ["lane"], multiprocess_mode="mostrecent"
)
BATCH = Gauge("maskloop_batch_tasks", "Tasks of running batches by state.", ["state"], multiprocess_mode="mostrecent")
CLICKS_PER_MASK = Histogram("maskloop_clicks_per_mask", "Clicks an accepted mask took.", ["project"], buckets=CLICKS)
SUBMISSION_IOU = Histogram(
    "maskloop_submission_iou", "IoU of the last predicted mask with the submitted one.", ["project"], buckets=IOU
)
SUBMISSIONS = Counter("maskloop_submissions_total", "Submissions recorded.", ["project"])
PROMOTIONS = Counter("maskloop_promotions_total", "Versions promoted or rolled back.", ["project", "kind"])


def observe_stages(kind: str, seconds: dict[str, float]) -> None:
    """Record the stages one answer went through."""
    for stage, value in seconds.items():
        STAGES.labels(stage, kind).observe(value)


def requests_of(route: str) -> int:
    """How many requests of a route this process has answered."""
    samples = (sample for metric in REQUESTS.collect() for sample in metric.samples)
    return sum(int(s.value) for s in samples if s.name.endswith("_total") and s.labels["route"] == route)


def set_depths(depths: dict[str, int]) -> None:
    for lane, depth in depths.items():
        DEPTH.labels(lane).set(depth)


def set_ages(ages: dict[str, float]) -> None:
    for lane, age in ages.items():
        AGE.labels(lane).set(age)


def set_batches(waiting: int, running: int, done: int, failed: int) -> None:
    for state, count in (("waiting", waiting), ("running", running), ("done", done), ("failed", failed)):
        BATCH.labels(state).set(count)


def text() -> bytes:
    """Everything in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest(REGISTRY)


def quantiles(histogram: Histogram, labels: dict[str, str], wanted: Iterable[float]) -> list[float | None]:
    """Upper bucket bounds at the wanted quantiles, None without samples; for the status page."""
    buckets: dict[float, float] = {}
    for metric in histogram.collect():
        for sample in metric.samples:
            if sample.name.endswith("_bucket") and all(sample.labels.get(k) == v for k, v in labels.items()):
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + sample.value
    total = buckets.get(float("inf"), 0.0)
    if not total:
        return [None for _ in wanted]
    return [next(bound for bound in sorted(buckets) if buckets[bound] >= q * total) for q in wanted]
