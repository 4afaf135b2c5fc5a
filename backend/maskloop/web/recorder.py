"""Writes what was predicted into the ledger, after the annotator has the answer."""

from __future__ import annotations

import logging

from maskloop.ledger import Ledger, Prediction
from maskloop.web.background import Background

log = logging.getLogger(__name__)

WAITING = 1000
"""Predictions that may wait for the database; beyond that the newest are not recorded."""


class Recorder:
    """Writes predictions many at once, so that no click waits for a disk."""

    def __init__(self, ledger: Ledger) -> None:
        self._background = Background("recorder", ledger.record_predictions, WAITING)

    def record(self, prediction: Prediction) -> None:
        if not self._background.put(prediction):
            log.warning("the ledger cannot keep up; a prediction of task %s is not recorded", prediction.task)

    def close(self) -> None:
        """Write what waits, then stop."""
        self._background.close()
