"""A request that waits for its answer while its tasks are being done."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from maskloop.ledger import BatchItem

Entry: TypeAlias = dict[str, Any]
"""One entry of ``results``: a prediction as Label Studio takes it."""


@dataclass
class Asking:
    """A request that still waits for its answer: what is done by then goes into it."""

    changed: threading.Condition = field(default_factory=threading.Condition)
    entries: dict[int, tuple[BatchItem, Entry | None]] = field(default_factory=dict)
    closed: bool = False

    def take(self, item: BatchItem, entry: Entry | None) -> bool:
        """Put a task's entry (None: it failed) into the answer; False when that has gone."""
        with self.changed:
            if self.closed:
                return False
            self.entries[item.task] = (item, entry)
            self.changed.notify_all()
            return True

    def wait(self, count: int, seconds: float) -> bool:
        """Whether ``count`` tasks are here, at the latest after so many seconds."""
        with self.changed:
            return self.changed.wait_for(lambda: len(self.entries) >= count, timeout=max(0.0, seconds))

    def close(self) -> dict[int, tuple[BatchItem, Entry | None]]:
        """What is here, by task; nothing more is taken."""
        with self.changed:
            self.closed = True
            return self.entries
