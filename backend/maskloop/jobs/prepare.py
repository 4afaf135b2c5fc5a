"""An image somebody will click on soon: fetched and encoded before they do."""

from __future__ import annotations

from maskloop.jobs.workbench import Timings, Workbench
from maskloop.queue.job import Payload, Result


def prepare(bench: Workbench, payload: Payload) -> Result:
    """Put the embedding of ``payload["url"]`` into the cache. Raises Later, ImageError or ModelError."""
    version, segmenter = bench.segmenter(payload["version"])
    image = bench.image_or_later(payload["url"], payload["task"])
    timings = Timings()
    bench.embedding(image, segmenter, timings)
    return {"version": version, "tier": timings.tier, "seconds": timings.seconds}
