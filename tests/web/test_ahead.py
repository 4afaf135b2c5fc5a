from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from maskloop.queue.job import Job, Priority
from maskloop.queue.local import LocalQueue
from maskloop.web.ahead import Ahead, Opened


@pytest.fixture
def seen() -> list[str]:
    return []


@pytest.fixture
def queue(seen: list[str]) -> Iterator[LocalQueue]:
    def prepare(payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        seen.extend(payload["url"] for payload in payloads)
        return [{} for _ in payloads]

    queue = LocalQueue({"prepare": prepare})
    yield queue
    queue.close()


def test_the_opened_image_is_prepared_once(queue: LocalQueue, seen: list[str]) -> None:
    ahead = Ahead(queue, None, 3)
    queue.enqueue(Job("prepare", {"url": "first"}), Priority.BATCH)
    ahead.opened(Opened(1, 2, "/a.png", "image", "v"))
    ahead.close()
    queue.close()
    assert seen.count("/a.png") == 1


def test_a_closed_queue_does_not_stop_a_task_from_opening(queue: LocalQueue, seen: list[str]) -> None:
    queue.close()
    ahead = Ahead(queue, None, 3)
    ahead.opened(Opened(1, 2, "/a.png", "image", "v"))
    ahead.close()
    assert seen == []
