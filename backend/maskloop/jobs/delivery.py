"""One task of a batch: predicted by a worker, then put into the answer that is waited for, or pushed."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable

from maskloop import metrics
from maskloop.jobs.asking import Asking
from maskloop.jobs.unconfirmed import Unconfirmed
from maskloop.labelstudio.client import LabelStudioClient, LabelStudioError, Missing, Refused, Unreachable
from maskloop.ledger import BatchItem, Ledger
from maskloop.queue.job import Away, Busy, Expired, Job, JobError, JobQueue, Priority, Result

log = logging.getLogger(__name__)

CALL_SECONDS = 120.0
PAUSE_SECONDS = 2.0
ATTEMPTS = 3
AWAY_SECONDS = 10.0
"""Until a task whose image did not answer is tried again; six times as long before the last time."""
TOO_LATE = (
    "not done in time for the answer, and without LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY it cannot be pushed; "
    "retrieve predictions again"
)


class Delivery:
    """Does the tasks that ``owner`` has claimed; safe to share between threads.

    Args:
        asking_for: the request that waits for a task, None if none does.
        over: set when the process ends: nothing is waited for any more.
        lease: seconds for which a claim is kept.
    """

    def __init__(
        self,
        queue: JobQueue,
        ledger: Ledger,
        client: LabelStudioClient | None,
        unconfirmed: Unconfirmed,
        owner: str,
        asking_for: Callable[[BatchItem], Asking | None],
        over: threading.Event,
        lease: float,
    ) -> None:
        self._queue = queue
        self._ledger = ledger
        self._client = client
        self._unconfirmed = unconfirmed
        self._owner = owner
        self._asking_for = asking_for
        self._over = over
        self._lease = lease

    def do(self, item: BatchItem) -> bool:
        """Do one task; True when it went into an answer and stays claimed."""
        if item.answered and self._client is not None:
            self._unconfirmed.adopt(item, self._lease)
            return False
        try:
            if item.attempt > 1 and self._unconfirmed.stored(item):
                self._ledger.finish_item(item.id, self._owner)
                self._count(item)
                return False
            payload = json.loads(item.payload)
            job = Job("preannotate", payload, affinity=payload["url"])
            began = time.perf_counter()
            entry = self._queue.call(job, CALL_SECONDS, Priority.BATCH)
            observe(entry, time.perf_counter() - began)
            if payload.get("opened") and not entry["result"]:
                self._ledger.finish_item(item.id, self._owner)
                self._count(item)
                return False
            asking = self._asking_for(item)
            if asking and asking.take(item, entry):
                return True
            self._push(item, entry)
        except (Busy, Expired) as error:
            self._later(item, str(error))
        except Missing:
            self._fail(item, "the task is no longer in Label Studio", "deleted")
        except Refused as error:
            self._fail(item, str(error), "refused")
        except Unreachable as error:
            self._later(item, str(error))
        except Away as error:
            if item.attempt < ATTEMPTS:
                self._count(item)  # whoever asked is not kept waiting for that
                self._again(item, str(error), AWAY_SECONDS * 6 ** (item.attempt - 1))
            else:
                self._fail(item, str(error), "failed")
        except (LabelStudioError, JobError) as error:
            if item.attempt < ATTEMPTS:
                self._again(item, str(error))
            else:
                self._fail(item, str(error), "failed")
        return False

    def _push(self, item: BatchItem, entry: Result) -> None:
        if self._client is None:
            self._fail(item, TOO_LATE, "too late")
            return
        if not self._ledger.extend_items([item.id], self._owner, self._lease):
            log.info("task %d was taken over by another process meanwhile", item.task)
            return
        self._client.push_prediction(item.task, entry["result"], entry["score"], entry["model_version"])
        self._ledger.finish_item(item.id, self._owner)

    def _later(self, item: BatchItem, why: str) -> None:
        self._again(item, why)
        self._over.wait(PAUSE_SECONDS)

    def _again(self, item: BatchItem, why: str, after: float = 0.0) -> None:
        log.info("task %d is done later: %s", item.task, why)
        self._ledger.fail_item(item.id, self._owner, why, retry=True, after=after)

    def _fail(self, item: BatchItem, why: str, cause: str) -> None:
        log.warning("task %d: %s", item.task, why)
        if self._ledger.fail_item(item.id, self._owner, why):
            metrics.FAILURES.labels(cause).inc()
        self._count(item)

    def _count(self, item: BatchItem) -> None:
        """Nothing is to come for this task, or not soon."""
        asking = self._asking_for(item)
        if asking:
            asking.take(item, None)


def observe(entry: Result, elapsed: float) -> None:
    """Count what a worker answered, and take out of it what it says about itself (one of an older release does not)."""
    seconds, tier = entry.pop("seconds", {}), entry.pop("tier", "")
    if "total" in seconds:
        seconds["waiting"] = max(0.0, elapsed - seconds["total"])
    metrics.observe_stages(metrics.BATCH, {**seconds, "total": elapsed})
    metrics.ANSWERS.labels(metrics.BATCH, entry["model_version"]).inc()
    if tier:
        metrics.EMBEDDINGS.labels(tier).inc()
