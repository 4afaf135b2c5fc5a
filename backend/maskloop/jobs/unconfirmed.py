"""Predictions that went into an answer, until Label Studio is seen to have stored them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from maskloop.labelstudio.client import LabelStudioClient, LabelStudioError, Missing, Unreachable
from maskloop.ledger import BatchItem, Ledger

log = logging.getLogger(__name__)

SENT_SECONDS = 10.0
"""A process that still lives so long after its answer has sent it."""
STORE_SECONDS = 0.5
"""Time Label Studio gets to store one prediction of an answer that was sent; it needs 0.14 s."""
QUIET_SECONDS = 20.0
"""An answer of a process that died, perhaps while sending it, is lost when so long nothing of it is stored."""


@dataclass
class _Answer:
    """Tasks in the order in which Label Studio stores them. Times are monotonic."""

    items: deque[BatchItem]
    patience: float
    given: float
    news: float
    """When the last of it was seen stored."""

    def keep_for(self, now: float, lease_seconds: float) -> float:
        """Seconds for which its tasks are not to be done again, whatever becomes of this process.

        A short while at first: if this process dies while it sends, Label Studio gets nothing. Later as long as
        Label Studio may need: on Postgres it shows nothing of an answer before all of it is stored.
        """
        sent = now - self.given > SENT_SECONDS
        return max(lease_seconds, self.news + self.patience - now) if sent else lease_seconds


class Unconfirmed:
    """The tasks of answers; each stays claimed by ``owner`` until it is seen stored, or its answer counts as lost.

    Without a ``client`` nobody can look, and what was answered counts as done. Safe to share between threads.
    """

    def __init__(self, ledger: Ledger, client: LabelStudioClient | None, owner: str) -> None:
        self._ledger = ledger
        self._client = client
        self._owner = owner
        self._answers: dict[str, _Answer] = {}
        self._lock = threading.Lock()

    def expect(self, items: Sequence[BatchItem], lease_seconds: float) -> set[int]:
        """These are about to go into an answer; the ids of those that may. Others were taken over meanwhile."""
        ids = [item.id for item in items]
        if not ids:
            return set()
        if self._client is None:
            return self._ledger.finish_items(ids, self._owner)
        kept = self._ledger.answer_items(ids, self._owner, lease_seconds)
        self._watch([item for item in items if item.id in kept], lease_seconds + STORE_SECONDS * len(kept))
        return kept

    def adopt(self, item: BatchItem, lease_seconds: float) -> None:
        """This went into an answer of a process that has been silent since."""
        if self._ledger.answer_items([item.id], self._owner, lease_seconds):
            self._watch([item], QUIET_SECONDS)

    def renew(self, lease_seconds: float) -> None:
        """Keep the claims on what is not seen stored yet."""
        now = time.monotonic()
        with self._lock:
            claims = [([i.id for i in a.items], a.keep_for(now, lease_seconds)) for a in self._answers.values()]
        for ids, seconds in claims:
            self._ledger.extend_items(ids, self._owner, seconds)

    def look(self, over: threading.Event) -> None:
        """See what has been stored. The first that is missing says how far Label Studio is with an answer.

        Only one thread may call this. It waits for Label Studio, which may take half a minute for each task.
        """
        with self._lock:
            answers = list(self._answers.items())
        for batch, answer in answers:
            while answer.items and not over.is_set():
                item, asked = answer.items[0], time.monotonic()
                if not self._stored_or_gone(item, answer):
                    if asked - answer.news > answer.patience:
                        self._give_back(batch)
                    break
                self._ledger.finish_item(item.id, self._owner)
                answer.news = time.monotonic()
                with self._lock:
                    answer.items.popleft()
                    if not answer.items:
                        del self._answers[batch]

    def stored(self, item: BatchItem) -> bool:
        """Whether Label Studio has a prediction of that version for the task. Raises LabelStudioError."""
        if self._client is None:
            return False
        return any(one.model_version == item.version for one in self._client.predictions(item.task))

    def _watch(self, items: Sequence[BatchItem], patience: float) -> None:
        with self._lock:
            for item in items:
                now = time.monotonic()
                answer = self._answers.setdefault(item.batch, _Answer(deque(), patience, now, now))
                answer.items.append(item)

    def _stored_or_gone(self, item: BatchItem, answer: _Answer) -> bool:
        try:
            return self.stored(item)
        except Missing:
            log.info("task %d was deleted meanwhile", item.task)
            return True
        except Unreachable:
            answer.news = time.monotonic()  # nobody knows: it may be busy storing
            raise
        except LabelStudioError as error:  # whoever does the task again meets the same, and says so
            log.warning("task %d: %s", item.task, error)
            return False

    def _give_back(self, batch: str) -> None:
        with self._lock:
            answer = self._answers.pop(batch)
        log.info("batch %s: %d tasks of its answer were not stored and are done again", batch, len(answer.items))
        for item in answer.items:
            self._ledger.fail_item(item.id, self._owner, "Label Studio did not store the answer", retry=True)
