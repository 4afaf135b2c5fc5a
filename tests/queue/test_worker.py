"""Worker processes that are killed, hang, starve and are asked to stop, against a real Redis."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest
import redis
from rq import Queue

from maskloop.queue import wire
from maskloop.queue.job import Expired, Job, JobError, Priority
from maskloop.queue.redis import RedisQueue
from tests.queue.process import WorkerProcess
from tests.queue.waiting import StartWorker, in_background, wait_until
from tests.redis_server import needs_redis

pytestmark = needs_redis


def pids(worker: WorkerProcess) -> set[int]:
    return {int(said["pid"]) for said in worker.workers().values()}


def pid_of(worker: WorkerProcess) -> int:
    (pid,) = pids(worker)
    return pid


@pytest.mark.slow
def test_kill_9_in_the_middle_of_a_batch_job(url: str, tmp_path: Path, start_worker: StartWorker) -> None:
    worker = start_worker()
    queue = RedisQueue(url)
    began = time.monotonic()
    assert queue.call(Job("die", {"n": 1, "until": str(tmp_path / "died")}), 60, Priority.BATCH) == {"n": 1}
    assert time.monotonic() - began < 60
    assert worker.ran() == [[1], [1]]


@pytest.mark.slow
def test_a_batch_job_popped_by_a_worker_that_died_before_it_began(
    url: str, client: redis.Redis, start_worker: StartWorker
) -> None:
    queue = RedisQueue(url)
    thread, answers = in_background(queue, Job("echo", {"n": 1}), 60, Priority.BATCH)
    wait_until(lambda: queue.depths()["batch"] == 1)
    client.lpop(Queue("batch", connection=client).key)  # what BLPOP did for the worker in its last moment
    worker = start_worker()
    thread.join(60)
    assert isinstance(answers[0], dict)
    assert worker.ran() == [[1]]


def test_a_click_in_a_worker_that_dies_is_not_run_again(url: str, tmp_path: Path, start_worker: StartWorker) -> None:
    worker = start_worker()
    queue = RedisQueue(url)
    with pytest.raises(JobError):
        queue.call(Job("die", {"n": 1, "until": str(tmp_path / "died")}), 1.5)
    worker.wait_until_ready()
    assert queue.call(Job("echo", {"n": 2}), 10)["n"] == 2
    assert worker.ran() == [[1], [2]]


@pytest.mark.slow
def test_a_job_that_kills_every_worker_is_given_up(url: str, client: redis.Redis, start_worker: StartWorker) -> None:
    start_worker()
    with pytest.raises(JobError, match="stopped 3 times"):
        RedisQueue(url).call(Job("kill", {"n": 1}), 90, Priority.BATCH)
    assert not client.exists(wire.PENDING)


def test_sigterm_finishes_what_runs_and_takes_nothing_more(url: str, start_worker: StartWorker) -> None:
    worker = start_worker()
    queue = RedisQueue(url)
    running, answers = in_background(queue, Job("echo", {"n": "running", "seconds": 1.0}))
    wait_until(lambda: worker.ran() == [["running"]])
    queue.enqueue(Job("echo", {"n": "later"}), Priority.BATCH)
    assert worker.terminate() == 0
    running.join()
    assert isinstance(answers[0], dict)
    assert worker.ran() == [["running"]]
    assert queue.depths()["batch"] == 1


@pytest.mark.slow
def test_sigterm_while_idle_loses_nothing(url: str, start_worker: StartWorker) -> None:
    queue = RedisQueue(url)
    for n in range(5):
        worker = start_worker()
        thread, _ = in_background(queue, Job("echo", {"n": n}), 20)
        worker.terminate()
        start_worker()
        thread.join()
    assert sorted(batch[0] for batch in worker.ran()) == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_and_replaced(url: str, start_worker: StartWorker) -> None:
    worker = start_worker(limit=1.0)
    before = pid_of(worker)
    queue = RedisQueue(url)
    os.kill(before, signal.SIGSTOP)  # nothing inside the process can end this, as with a hanging kernel
    thread, _ = in_background(queue, Job("echo", {"n": 1}), 3)
    os.kill(before, signal.SIGCONT)
    thread.join()
    stuck, _ = in_background(queue, Job("echo", {"n": 2, "seconds": 600}), 3)
    stuck.join()
    wait_until(lambda: bool(alive := pids(worker)) and before not in alive)
    assert queue.call(Job("echo", {"n": 3}), 10)["n"] == 3


@pytest.mark.slow
def test_a_batch_job_that_makes_progress_is_not_taken_for_one_that_hangs(
    url: str, tmp_path: Path, start_worker: StartWorker
) -> None:
    worker = start_worker(limit=3.0)
    job = Job("parts", {"n": "batch", "until": str(tmp_path / "end")})
    batch, answers = in_background(RedisQueue(url), job, 60, Priority.BATCH)
    wait_until(lambda: worker.ran() == [["batch"]])
    time.sleep(6)
    (tmp_path / "end").touch()
    batch.join(20)
    assert answers == [{"n": "batch"}]
    assert worker.ran() == [["batch"], ["batch"]], "it was killed and begun again"


def test_a_batch_job_that_runs_when_the_time_is_up_is_waited_for(
    url: str, tmp_path: Path, start_worker: StartWorker
) -> None:
    worker = start_worker()
    job = Job("parts", {"n": "batch", "until": str(tmp_path / "end")})
    batch, answers = in_background(RedisQueue(url), job, 1.0, Priority.BATCH)
    wait_until(lambda: worker.ran() == [["batch"]])
    batch.join(2)
    assert batch.is_alive()
    (tmp_path / "end").touch()
    batch.join(20)
    assert answers == [{"n": "batch"}]


def test_each_drained_click_is_answered_when_it_is_done(url: str, tmp_path: Path, start_worker: StartWorker) -> None:
    worker = start_worker(drain=2)
    queue = RedisQueue(url)
    blocker, _ = in_background(queue, Job("echo", {"n": "blocker", "seconds": 0.8}))
    wait_until(lambda: worker.ran() == [["blocker"]])
    clicks = []
    for n in range(2):
        clicks.append(in_background(queue, Job("in turn", {"n": n, "until": str(tmp_path / str(n))}), 20))
        wait_until(lambda n=n: queue.depths()["interactive"] == n + 1)  # type: ignore[misc]
    wait_until(lambda: worker.ran() == [["blocker"], [0, 1]])
    (tmp_path / "0").touch()
    clicks[0][0].join(8)
    assert clicks[0][1] == [{"n": 0}]
    assert clicks[1][0].is_alive()
    (tmp_path / "1").touch()
    for thread in (blocker, clicks[1][0]):
        thread.join(20)
    assert clicks[1][1] == [{"n": 1}]


def test_workers_end_when_their_supervisor_is_killed(url: str, start_worker: StartWorker) -> None:
    worker = start_worker()
    process = psutil.Process(pid_of(worker))
    worker.kill_supervisor()
    wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    wait_until(lambda: not worker.workers())


def test_out_of_memory_is_split_and_tried_once_more(url: str, start_worker: StartWorker) -> None:
    worker = start_worker()
    queue = RedisQueue(url)
    blocker, _ = in_background(queue, Job("echo", {"n": "blocker", "seconds": 0.8}))
    wait_until(lambda: worker.ran() == [["blocker"]])
    clicks = []
    for n in range(3):
        clicks.append(in_background(queue, Job("starve", {"n": n})))
        wait_until(lambda n=n: queue.depths()["interactive"] == n + 1)  # type: ignore[misc]
    for thread, _ in [(blocker, None), *clicks]:
        thread.join()
    assert [answers for _, answers in clicks] == [[{"n": 0}], [{"n": 1}], [{"n": 2}]]
    assert worker.ran() == [["blocker"], [0, 1, 2], [0], [1], [2]]


@pytest.mark.slow
def test_any_other_device_error_ends_the_process_and_loses_no_batch_job(
    url: str, tmp_path: Path, start_worker: StartWorker
) -> None:
    worker = start_worker()
    before = pid_of(worker)
    queue = RedisQueue(url)
    assert queue.call(Job("break", {"n": 1, "until": str(tmp_path / "broken")}), 60, Priority.BATCH) == {"n": 1}
    assert pid_of(worker) != before
    with pytest.raises(JobError, match="worker restarts"):
        queue.call(Job("break", {"n": 2, "until": str(tmp_path / "broken again")}), 10)


def test_a_click_is_answered_in_the_pause_of_a_batch_job(
    url: str, tmp_path: Path, client: redis.Redis, start_worker: StartWorker
) -> None:
    worker = start_worker()
    queue = RedisQueue(url)
    job = Job("parts", {"n": "batch", "until": str(tmp_path / "end")})
    batch, answers = in_background(queue, job, 60, Priority.BATCH)
    wait_until(lambda: worker.ran() == [["batch"]])
    for n in (1, 2):
        assert queue.call(Job("echo", {"n": n}), 8)["n"] == n
    assert worker.ran() == [["batch"], [1], [2]]
    assert client.hlen(wire.PENDING) == 1
    (tmp_path / "end").touch()
    batch.join(20)
    assert answers == [{"n": "batch"}]
    assert worker.ran() == [["batch"], [1], [2], ["batch"]]
    assert queue.call(Job("echo", {"n": 3}), 8)["n"] == 3


@pytest.mark.parametrize("priority", [Priority.INTERACTIVE, Priority.BATCH])
def test_a_job_that_waits_for_its_image_holds_nobody_up(
    url: str, client: redis.Redis, tmp_path: Path, start_worker: StartWorker, priority: Priority
) -> None:
    worker = start_worker()
    queue = RedisQueue(url)
    slow, answers = in_background(queue, Job("fetch", {"n": "slow", "until": str(tmp_path / "here")}), 30, priority)
    wait_until(lambda: worker.ran() == [["slow"]])
    assert queue.call(Job("echo", {"n": "quick"}), 20)["n"] == "quick"
    assert slow.is_alive()
    (tmp_path / "here").touch()
    slow.join(20)
    assert answers == [{"n": "slow"}]
    assert worker.ran() == [["slow"], ["quick"], ["slow"]]
    wait_until(lambda: not client.keys("rq:execution:*") and not client.keys("rq:job:*"))


def test_a_click_whose_image_comes_too_late_says_so(
    url: str, client: redis.Redis, tmp_path: Path, start_worker: StartWorker
) -> None:
    start_worker()
    queue = RedisQueue(url)
    with pytest.raises(Expired, match="its mark is on its way"):
        queue.call(Job("fetch", {"n": 1, "until": str(tmp_path / "here")}), 1.0)
    (tmp_path / "here").touch()
    assert queue.call(Job("echo", {"n": 2}), 10)["n"] == 2
    wait_until(lambda: not client.keys("rq:job:*") and not client.keys("rq:execution:*"))


@pytest.mark.slow
def test_a_batch_job_set_aside_in_a_worker_that_dies_is_not_lost(
    url: str, tmp_path: Path, start_worker: StartWorker
) -> None:
    worker = start_worker()
    job = Job("fetch", {"n": 1, "until": str(tmp_path / "here")})
    batch, answers = in_background(RedisQueue(url), job, 60, Priority.BATCH)
    wait_until(lambda: worker.ran() == [[1]])
    os.kill(pid_of(worker), signal.SIGKILL)
    wait_until(lambda: worker.ran() == [[1], [1]])
    (tmp_path / "here").touch()
    batch.join(30)
    assert answers == [{"n": 1}]


def test_a_click_set_aside_in_a_worker_that_stops_is_handed_over(
    url: str, tmp_path: Path, start_worker: StartWorker
) -> None:
    worker = start_worker()
    click, answers = in_background(RedisQueue(url), Job("fetch", {"n": 1, "until": str(tmp_path / "here")}), 60)
    wait_until(lambda: worker.ran() == [[1]])
    stopping = threading.Thread(target=worker.terminate)
    stopping.start()
    wait_until(lambda: not worker.workers())
    (tmp_path / "here").touch()
    start_worker()
    click.join(60)
    stopping.join()
    assert answers == [{"n": 1}]
