from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from maskloop.queue.job import Busy, Expired, Job, JobError, Priority, Superseded
from maskloop.queue.local import LocalQueue
from maskloop.queue.pauses import Later, let_clicks_pass
from tests.queue.waiting import in_background, wait_until


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


def wait_for_depth(queue: LocalQueue, lane: str, depth: int) -> None:
    wait_until(lambda: queue.depths()[lane] == depth)


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


class Image:
    """A handler whose jobs wait for what is on its way; ``ran`` notes each time one is run."""

    def __init__(self) -> None:
        self.here: Future[None] = Future()
        self.ran: list[Any] = []

    def __call__(self, payloads: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any] | Exception]:
        for payload in payloads:
            self.ran.append(payload["n"])
            yield (
                {"n": payload["n"]}
                if self.here.done() or payload["n"] == "quick"
                else Later(self.here, "its image is on its way")
            )


@pytest.fixture
def image() -> Image:
    return Image()


@pytest.fixture
def aside(image: Image) -> Iterator[LocalQueue]:
    queue = LocalQueue({"image": image}, limit=3)
    yield queue
    queue.close()


@pytest.mark.parametrize("priority", [Priority.INTERACTIVE, Priority.BATCH])
def test_a_job_that_waits_for_its_image_holds_nobody_up(aside: LocalQueue, image: Image, priority: Priority) -> None:
    thread, answers = in_background(aside, Job("image", {"n": "slow"}), priority=priority)
    wait_until(lambda: image.ran == ["slow"])
    assert aside.call(Job("image", {"n": "quick"}), 5)["n"] == "quick"
    assert thread.is_alive()
    image.here.set_result(None)
    thread.join(5)
    assert answers == [{"n": "slow"}]
    assert image.ran == ["slow", "quick", "slow"]


def test_a_batch_job_set_aside_is_waited_for_beyond_its_time_and_a_click_is_not(
    aside: LocalQueue, image: Image
) -> None:
    batch, answers = in_background(aside, Job("image", {"n": "batch"}), 0.1, Priority.BATCH)
    click, refused = in_background(aside, Job("image", {"n": "click"}), 0.1)
    click.join(5)
    assert isinstance(refused[0], Expired)
    assert "its image is on its way" in str(refused[0])
    wait_until(lambda: sorted(image.ran) == ["batch", "click"])
    image.here.set_result(None)
    batch.join(5)
    assert answers == [{"n": "batch"}]
    aside.call(Job("image", {"n": "quick"}), 5)
    assert image.ran[2:] == ["batch", "quick"], "nobody waits for the click any more"


def test_a_key_is_taken_while_its_job_is_aside(aside: LocalQueue, image: Image) -> None:
    job = Job("image", {"n": "ahead"}, key="a")
    assert aside.enqueue(job, Priority.PREPARE)
    wait_until(lambda: image.ran == ["ahead"])
    assert not aside.enqueue(job, Priority.PREPARE)
    image.here.set_result(None)
    wait_until(lambda: image.ran == ["ahead", "ahead"])
    wait_until(lambda: aside.enqueue(job, Priority.PREPARE))


def test_what_is_aside_when_the_queue_closes_is_told(image: Image) -> None:
    queue = LocalQueue({"image": image})
    thread, answers = in_background(queue, Job("image", {"n": "slow"}), 30)
    wait_until(lambda: image.ran == ["slow"])
    queue.close()
    image.here.set_result(None)
    thread.join(5)
    assert isinstance(answers[0], Busy)


def test_a_click_that_nobody_waits_for_takes_no_place(queue: LocalQueue, gate: Gate) -> None:
    queue.enqueue(Job("gate", {"n": "running"}), Priority.BATCH)
    assert gate.started.wait(5)
    for n in range(5):
        with pytest.raises(Expired):
            queue.call(Job("gate", {"n": n}), 0.01)
    assert queue.depths()["interactive"] == 0
