from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from maskloop.queue.job import Busy, Expired, Job, JobError, Priority, Superseded
from maskloop.queue.local import LocalQueue
from maskloop.queue.pauses import let_clicks_pass


class Gate:
    """A handler whose first job blocks until it is let through, and which notes what it ran."""

    def __init__(self) -> None:
        self.ran: list[Any] = []
        self.started = threading.Event()
        self.open = threading.Event()

    def __call__(self, payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        for payload in payloads:
            self.ran.append(payload["n"])
        self.started.set()
        assert self.open.wait(10)
        return [{"n": p["n"]} for p in payloads]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def queue(gate: Gate) -> Iterator[LocalQueue]:
    def explode(payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        raise ZeroDivisionError("boom")

    def refuse(payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        return [JobError("the image is not reachable") for _ in payloads]

    queue = LocalQueue({"gate": gate, "explode": explode, "refuse": refuse}, limit=3)
    yield queue
    gate.open.set()
    queue.close()


def in_background(
    queue: LocalQueue, job: Job, deadline: float = 10, priority: Priority = Priority.INTERACTIVE
) -> tuple[threading.Thread, list[object]]:
    answers: list[object] = []

    def run() -> None:
        try:
            answers.append(queue.call(job, deadline, priority))
        except JobError as error:
            answers.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, answers


def wait_for_depth(queue: LocalQueue, lane: str, depth: int) -> None:
    for _ in range(1000):
        if queue.depths()[lane] == depth:
            return
        threading.Event().wait(0.005)
    raise AssertionError(f"{lane} never reached {depth}: {queue.depths()}")


def test_a_click_goes_before_prepare_and_batch(queue: LocalQueue, gate: Gate) -> None:
    queue.enqueue(Job("gate", {"n": "running"}), Priority.BATCH)
    assert gate.started.wait(5)
    queue.enqueue(Job("gate", {"n": "batch"}), Priority.BATCH)
    queue.enqueue(Job("gate", {"n": "prepare"}), Priority.PREPARE)
    click, answers = in_background(queue, Job("gate", {"n": "click"}))
    wait_for_depth(queue, "interactive", 1)
    gate.open.set()
    click.join(5)
    queue.close()
    assert answers == [{"n": "click"}]
    assert gate.ran == ["running", "click", "prepare", "batch"]


def test_a_click_is_answered_in_the_pause_of_a_batch_job() -> None:
    ran: list[str] = []
    paused, waits = threading.Event(), threading.Event()

    def long(payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        ran.append("begins")
        paused.set()
        assert waits.wait(10)
        let_clicks_pass()
        ran.append("ends")
        return [{} for _ in payloads]

    def click(payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        ran.append("click")
        return [{} for _ in payloads]

    queue = LocalQueue({"long": long, "click": click})
    batch = in_background(queue, Job("long", {}), priority=Priority.BATCH)
    assert paused.wait(5)
    clicks = [in_background(queue, Job("click", {"n": n}, group=str(n))) for n in range(2)]
    wait_for_depth(queue, "interactive", 2)
    queue.enqueue(Job("click", {}), Priority.PREPARE)
    waits.set()
    for thread, _ in (batch, *clicks):
        thread.join(5)
    queue.close()
    assert ran == ["begins", "click", "click", "ends", "click"]


def test_a_newer_prompt_supersedes_only_its_own_older_ones(queue: LocalQueue, gate: Gate) -> None:
    queue.enqueue(Job("gate", {"n": 0}), Priority.BATCH)
    assert gate.started.wait(5)
    older = in_background(queue, Job("gate", {"n": "older"}, group="task 1", parts=frozenset("a")))
    wait_for_depth(queue, "interactive", 1)
    other = in_background(queue, Job("gate", {"n": "other annotator"}, group="task 1", parts=frozenset("x")))
    wait_for_depth(queue, "interactive", 2)
    newer = in_background(queue, Job("gate", {"n": "newer"}, group="task 1", parts=frozenset("ab")))
    older[0].join(5)
    assert isinstance(older[1][0], Superseded)
    gate.open.set()
    for thread, _ in (other, newer):
        thread.join(5)
    assert (other[1], newer[1]) == ([{"n": "other annotator"}], [{"n": "newer"}])
    assert "older" not in gate.ran


def test_a_full_lane_refuses_and_says_when_to_come_back(queue: LocalQueue, gate: Gate) -> None:
    queue.enqueue(Job("gate", {"n": 0}), Priority.BATCH)
    assert gate.started.wait(5)
    threads = [in_background(queue, Job("gate", {"n": n}))[0] for n in range(1, 4)]
    wait_for_depth(queue, "interactive", 3)
    with pytest.raises(Busy) as refusal:
        queue.call(Job("gate", {"n": 4}), 1)
    assert refusal.value.retry_after >= 1
    gate.open.set()
    for thread in threads:
        thread.join(5)


def test_an_expired_click_is_answered_and_never_run(queue: LocalQueue, gate: Gate) -> None:
    queue.enqueue(Job("gate", {"n": 0}), Priority.BATCH)
    assert gate.started.wait(5)
    with pytest.raises(Expired):
        queue.call(Job("gate", {"n": "late"}), 0.05)
    gate.open.set()
    assert queue.call(Job("gate", {"n": "next"}), 5) == {"n": "next"}
    assert "late" not in gate.ran


def test_a_batch_job_that_runs_when_the_time_is_up_is_waited_for(queue: LocalQueue, gate: Gate) -> None:
    running, answers = in_background(queue, Job("gate", {"n": 0}), 0.05, Priority.BATCH)
    assert gate.started.wait(5)
    running.join(0.3)
    assert running.is_alive()
    gate.open.set()
    running.join(5)
    assert answers == [{"n": 0}]


def test_a_key_waits_once(queue: LocalQueue, gate: Gate) -> None:
    queue.enqueue(Job("gate", {"n": 0}), Priority.BATCH)
    assert gate.started.wait(5)
    assert queue.enqueue(Job("gate", {"n": 1}, key="image 1"), Priority.PREPARE)
    assert not queue.enqueue(Job("gate", {"n": 1}, key="image 1"), Priority.PREPARE)
    gate.open.set()
    queue.call(Job("gate", {"n": 2}), 5)
    wait_for_depth(queue, "prepare", 0)
    queue.call(Job("gate", {"n": 3}), 5)
    assert queue.enqueue(Job("gate", {"n": 1}, key="image 1"), Priority.PREPARE)


def test_failures_are_told_and_do_not_stop_the_thread(queue: LocalQueue, gate: Gate) -> None:
    gate.open.set()
    with pytest.raises(JobError, match="ZeroDivisionError: boom"):
        queue.call(Job("explode", {}), 5)
    with pytest.raises(JobError, match="not reachable"):
        queue.call(Job("refuse", {}), 5)
    with pytest.raises(JobError, match="no worker knows"):
        queue.call(Job("unheard of", {}), 5)
    assert queue.ready() is None
    assert queue.call(Job("gate", {"n": 1}), 5) == {"n": 1}


def test_a_closed_queue_refuses(queue: LocalQueue, gate: Gate) -> None:
    gate.open.set()
    queue.close()
    with pytest.raises(Busy):
        queue.call(Job("gate", {"n": 1}), 1)
    assert queue.ready() is not None


def ready_within(queue: LocalQueue, seconds: float) -> str | None:
    until = time.monotonic() + seconds
    while (why := queue.ready()) is not None and time.monotonic() < until:
        time.sleep(0.005)
    return why


def test_it_is_ready_once_its_first_job_is_done(gate: Gate) -> None:
    queue = LocalQueue({"gate": gate}, first=Job("gate", {"n": 1}))
    assert gate.started.wait(5)
    assert queue.ready() == "the model is being loaded"
    gate.open.set()
    assert ready_within(queue, 5) is None
    queue.close()


def test_it_says_why_its_first_job_failed_until_another_succeeds(gate: Gate) -> None:
    def refuse(payloads: Sequence[dict[str, Any]]) -> list[dict[str, Any] | Exception]:
        return [JobError("the weights are missing") for _ in payloads]

    queue = LocalQueue({"refuse": refuse, "gate": gate}, first=Job("refuse", {}))
    with pytest.raises(JobError):
        queue.call(Job("refuse", {}), 5)
    assert queue.ready() == "the weights are missing"
    gate.open.set()
    queue.call(Job("gate", {"n": 1}), 5)
    assert ready_within(queue, 5) is None
    with pytest.raises(JobError):
        queue.call(Job("refuse", {}), 5)
    assert queue.ready() is None
    queue.close()
