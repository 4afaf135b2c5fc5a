"""Writes what was predicted into the ledger, after the annotator has the answer."""

from __future__ import annotations

import logging
import queue
import threading

from maskloop.ledger import Ledger, Prediction

log = logging.getLogger(__name__)

WAITING = 1000
"""Predictions that may wait for the database; beyond that the newest are not recorded."""


class Recorder:
    """One thread that writes predictions in batches, so that no click waits for a disk."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: queue.Queue[Prediction | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def record(self, prediction: Prediction) -> None:
        try:
            self._waiting.put_nowait(prediction)
        except queue.Full:
            log.warning("the ledger cannot keep up; a prediction of task %s is not recorded", prediction.task)

    def close(self) -> None:
        """Write what waits, then stop."""
        self._waiting.put(None)
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch: list[Prediction] = [first]
            last = False
            while not self._waiting.empty():
                item = self._waiting.get()
                if item is None:
                    last = True
                    break
                batch.append(item)
            try:
                self._ledger.record_predictions(batch)
            except Exception:
                log.exception("%d predictions could not be recorded", len(batch))
            if last:
                return
