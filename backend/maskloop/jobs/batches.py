"""Whole task queues: what is done in time is answered, the rest goes on behind and is pushed as it is done."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from maskloop import metrics
from maskloop.jobs.asking import Asking, Entry
from maskloop.jobs.delivery import CALL_SECONDS, PAUSE_SECONDS, TOO_LATE, Delivery
from maskloop.jobs.preannotate import PreannotateRequest, plan
from maskloop.jobs.unconfirmed import Unconfirmed
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.labelstudio.requests import PredictRequest
from maskloop.ledger import BatchItem, Ledger
from maskloop.queue.job import JobQueue

log = logging.getLogger(__name__)

WINDOW = 4
"""Tasks of batches that one web process has under way at once."""
LEASE_SECONDS = 30.0
"""A task whose process is silent for this long is taken over by another."""
IDLE_SECONDS = 5.0
LOOK_SECONDS = 2.0
ONE_TASK_SECONDS = 10.0
"""Somebody opens a task and waits: one task is answered within this."""


class Batches:
    """Predictions for many tasks, each stored in Label Studio once, however often a process dies.

    What has to be done stands in the ledger. A task is claimed for a while, run by a worker,
    and either put into the answer that Label Studio still waits for or pushed through its
    API. A task that went into an answer counts as done when Label Studio is seen to have stored
    it; if it never does, the task is done again.

    Args:
        deadline: seconds after which a request is answered with what is done.
        client: Label Studio's API; without one nothing can be pushed and the rest is given up.
        live: the labels that a version proposes masks for by itself.
        learned: the versions that a project has: with any, whole queues are scored where nothing is proposed.
    """

    def __init__(
        self,
        queue: JobQueue,
        ledger: Ledger,
        client: LabelStudioClient | None,
        deadline: float,
        window: int = WINDOW,
        live: Callable[[str], Collection[str]] = lambda version: (),
        learned: Callable[[int], Collection[object]] = lambda project: (),
    ) -> None:
        self._learned = learned
        self._live = live
        self._ledger = ledger
        self._client = client
        self._deadline = deadline
        self._owner = uuid.uuid4().hex
        self._asking: dict[str, Asking] = {}
        self._held: set[int] = set()
        self._unconfirmed = Unconfirmed(ledger, client, self._owner)
        self._lock = threading.Lock()
        self._wake = threading.Semaphore(0)
        self._over = threading.Event()
        self._delivery = Delivery(
            queue, ledger, client, self._unconfirmed, self._owner, self._asking_for, self._over, LEASE_SECONDS
        )
        self._window = window
        self._threads = [threading.Thread(target=self._run, name=f"batch-{n}", daemon=True) for n in range(window)]
        # Claims are renewed by a thread that never waits for Label Studio, which may be slower than they last.
        self._threads.append(threading.Thread(target=self._again, args=(self._renew,), name="batch-lease", daemon=True))
        self._threads.append(threading.Thread(target=self._again, args=(self._look,), name="batch-look", daemon=True))
        for thread in self._threads:
            thread.start()

    def answer(self, request: PredictRequest, version: str) -> list[Entry | list[Any]]:
        """An entry for each task, in order.

        ``[]`` where there is none (nothing to do, failed, or not done yet): Label Studio stores
        nothing then and may ask again.
        """
        until = time.monotonic() + (self._deadline if len(request.tasks) > 1 else min(self._deadline, ONE_TASK_SECONDS))
        plans: dict[int, PreannotateRequest] = {}
        live = self._live(version)
        # One task alone may have been opened: an empty prediction would be a tab in it, and be waited for.
        scored = len(request.tasks) > 1 and request.project is not None and bool(self._learned(request.project))
        for task in request.tasks:
            if task.problem is not None:
                log.warning("task %s: %s", task.id, task.problem)
                metrics.FAILURES.labels("unusable").inc()
            elif (asked := plan(task, request.config, version, live, scored)) is not None:
                plans.setdefault(asked.task, replace(asked, opened=len(request.tasks) == 1))
        entries = self._ask(request.project, version, list(plans.values()), until) if plans else {}
        return [[] if task.id is None else entries.pop(task.id, []) for task in request.tasks]

    def close(self) -> None:
        """Finish what is under way; the rest stays in the ledger."""
        self._over.set()
        for _ in self._threads:
            self._wake.release()
        for thread in self._threads:
            thread.join(timeout=CALL_SECONDS)

    def _ask(
        self, project: int | None, version: str, plans: list[PreannotateRequest], until: float
    ) -> dict[int, Entry]:
        asking = Asking()
        items = [(asked.task, asked.digest(), json.dumps(asked.to_json())) for asked in plans]
        with self._lock:  # nobody may finish a task of this batch before its request is known to wait
            batch = self._ledger.create_batch(project or 0, version, items)
            self._asking[batch] = asking
        try:
            count = self._wait(batch, asking, until)
        except Exception:  # nobody gets what is done: it shall be done again, when its claim has run out
            with self._lock:
                self._held.difference_update(item.id for item, _ in asking.close().values())
            raise
        finally:
            with self._lock:
                del self._asking[batch]
        done = asking.close()
        if len(done) < count:
            log.info("batch %s: %d of %d tasks go on in the background", batch, count - len(done), count)
        order = [asked.task for asked in plans if asked.task in done]  # as Label Studio will store them
        stored = [(item, entry) for item, entry in map(done.__getitem__, order) if entry is not None]
        given = self._give([item for item, _ in stored])
        if self._client is None:
            self._give_up(batch=batch)
        return {item.task: entry for item, entry in stored if item.id in given}

    def _wait(self, batch: str, asking: Asking, until: float) -> int:
        """Until all tasks of a batch are done, or the time is up; how many there are."""
        progress = self._ledger.progress(batch)
        count = progress.total if progress else 0
        log.info("batch %s: %d tasks", batch, count)
        for _ in range(min(count, self._window)):
            self._wake.release()
        while not asking.wait(count, min(until - time.monotonic(), LOOK_SECONDS)):
            if time.monotonic() >= until or self._nothing_left(batch, asking):
                break
        return count

    def _nothing_left(self, batch: str, asking: Asking) -> bool:
        """Other processes may have done the rest."""
        progress = self._ledger.progress(batch)
        return progress is None or progress.waiting + progress.running <= len(asking.entries)

    def _give(self, items: list[BatchItem]) -> set[int]:
        """These are about to go into the answer: watch that Label Studio stores them. The ids of those that may go."""
        with self._lock:
            self._held.difference_update(item.id for item in items)
        given = self._unconfirmed.expect(items, LEASE_SECONDS)
        if len(given) < len(items):
            log.warning("%d tasks were taken over by another process meanwhile", len(items) - len(given))
        return given

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                item = self._claim()
                if item is None:
                    self._wake.acquire(timeout=IDLE_SECONDS)
                    continue
                self._hold(item)
            except Exception:  # a database that restarts must not end this thread
                log.exception("a task of a batch is done later")
                self._over.wait(PAUSE_SECONDS)

    def _claim(self) -> BatchItem | None:
        """The next task. Without a client only one of a request that waits here: any other could not be stored."""
        if self._client is not None:
            return self._ledger.claim_item(self._owner, LEASE_SECONDS)
        with self._lock:
            mine = list(self._asking)
        return self._ledger.claim_item(self._owner, LEASE_SECONDS, mine) if mine else None

    def _hold(self, item: BatchItem) -> None:
        """Do one task and keep its claim alive meanwhile."""
        answered = False
        with self._lock:
            if item.id in self._held:  # its claim lapsed and came back here: it is being done
                return
            self._held.add(item.id)
        try:
            answered = self._delivery.do(item)
        finally:
            if not answered:
                with self._lock:
                    self._held.discard(item.id)

    def _asking_for(self, item: BatchItem) -> Asking | None:
        with self._lock:
            return self._asking.get(item.batch)

    def _again(self, work: Callable[[], None]) -> None:
        while not self._over.wait(LEASE_SECONDS / 6):
            try:
                work()
            except Exception:
                log.exception("batches are looked after later")

    def _renew(self) -> None:
        """Keep claims alive."""
        with self._lock:
            held = list(self._held)
        if held:
            self._ledger.extend_items(held, self._owner, LEASE_SECONDS)
        self._unconfirmed.renew(LEASE_SECONDS)

    def _look(self) -> None:
        """See what of the last answers Label Studio has stored. Without a client: what nobody waits for any more."""
        self._unconfirmed.look(self._over)
        if self._client is None:
            self._give_up(created_before=time.time() - self._deadline - LEASE_SECONDS)

    def _give_up(self, batch: str | None = None, created_before: float | None = None) -> None:
        if count := self._ledger.give_up(TOO_LATE, batch, created_before):
            log.warning("%d tasks: %s", count, TOO_LATE)
            metrics.FAILURES.labels("too late").inc(count)
