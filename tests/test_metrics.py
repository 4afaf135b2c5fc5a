from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from maskloop import metrics
from maskloop.metrics import Snapshot, text

COUNT = """
from maskloop import metrics
metrics.observe_stages("click", {"total": 0.3})
metrics.observe_stages("batch", {"total": 9.0})
metrics.REQUESTS.labels("/setup", 200).inc()
"""
TELL = """
from maskloop import metrics
clicks = lambda labels: labels["kind"] == "click"
print(metrics.shared(), metrics.requests_of("/setup"), *metrics.quantiles(metrics.STAGES, clicks, (0.5,)))
print(metrics.text(metrics.Snapshot()).decode())
"""


def told(snapshot: Snapshot) -> dict[str, dict[str, float]]:
    """The value of each series, by name and the values of its labels with commas between."""
    families = text_string_to_metric_families(text(snapshot).decode())
    samples = [sample for family in families for sample in family.samples if sample.labels]
    found: dict[str, dict[str, float]] = {}
    for sample in samples:
        found.setdefault(sample.name, {})[",".join(sample.labels.values())] = sample.value
    return found


def test_what_is_so_at_the_moment_is_told_and_then_forgotten() -> None:
    tasks = {"waiting": 1, "running": 2, "done": 30, "failed": 4}
    first = told(Snapshot({"batch": 5}, {"batch": 1.5}, tasks, {("3", "gate"): 2}))
    assert first["maskloop_queue_depth"] == {"batch": 5}
    assert first["maskloop_queue_age_seconds"] == {"batch": 1.5}
    assert first["maskloop_batch_tasks"] == {"waiting": 1, "running": 2}
    assert first["maskloop_batch_tasks_ended_total"] == {"done": 30, "failed": 4}
    assert first["maskloop_promotions_total"] == {"gate,3": 2}
    assert not {name for name in told(Snapshot()) if name.startswith(("maskloop_queue", "maskloop_batch"))}


def test_without_samples_there_is_no_quantile() -> None:
    assert metrics.quantiles(metrics.STAGES, lambda labels: labels["kind"] == "never", (0.5, 0.95)) == [None, None]


def test_processes_that_share_a_folder_count_together(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", COUNT], env=environment, check=True)
    out = subprocess.run([sys.executable, "-c", TELL], env=environment, check=True, capture_output=True, text=True)
    head, _, body = out.stdout.partition("\n")
    assert head == "True 2 0.32"
    assert 'maskloop_stage_seconds_count{kind="click",stage="total"} 2.0' in body
