"""Predictions that went into an answer, until Label Studio is seen to have stored them."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from maskloop.labelstudio.client import LabelStudioClient, Missing
from maskloop.ledger import BatchItem, Ledger

log = logging.getLogger(__name__)

STORE_SECONDS = 2.0
"""Time Label Studio gets to store one prediction of an answer before it is pushed instead; it needs 0.14 s."""


class Unconfirmed:
    """The tasks of answers, in the order in which Label Studio stores them.

    Each stays claimed by ``owner`` meanwhile. One whose claim runs out is done again by whoever takes it.
    Without a ``client`` nobody can look, and what was answered counts as done.
    """

    def __init__(self, ledger: Ledger, client: LabelStudioClient | None, owner: str) -> None:
        self._ledger = ledger
        self._client = client
        self._owner = owner
        self._waiting: deque[tuple[float, BatchItem]] = deque()

    def expect(self, items: Sequence[BatchItem], lease_seconds: float) -> None:
        """These went into an answer just now."""
        ids = [item.id for item in items]
        if self._client is None:
            self._ledger.finish_items(ids, self._owner)
        elif items:
            lease = lease_seconds + STORE_SECONDS * len(items)
            until = time.monotonic() + lease
            self._ledger.extend_items(ids, self._owner, lease)
            self._waiting.extend((until, item) for item in items)

    def look(self, over: threading.Event) -> None:
        """See what has been stored. An answer is stored task by task: the first that is missing says how far it is.

        Only one thread may call this.
        """
        while self._waiting and not over.is_set():
            until, item = self._waiting[0]
            if time.monotonic() < until:
                try:
                    if not self.stored(item):
                        return
                except Missing:
                    log.info("task %d was deleted meanwhile", item.task)
                self._ledger.finish_item(item.id, self._owner)
            self._waiting.popleft()

    def stored(self, item: BatchItem) -> bool:
        """Whether Label Studio has a prediction of that version for the task. Raises LabelStudioError."""
        if self._client is None:
            return False
        return any(one.model_version == item.version for one in self._client.predictions(item.task))
