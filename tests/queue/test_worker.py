"""Worker processes that are killed, hang, starve and are asked to stop, against a real Redis."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from maskloop.queue import wire
from maskloop.queue.affinity import preferred
from maskloop.queue.job import Job, JobError, Priority
from maskloop.queue.redis import RedisQueue
from tests.queue.process import WorkerProcess
from tests.queue.test_redis import in_background, wait_until
from tests.redis_server import needs_redis

pytestmark = needs_redis
StartWorker = Callable[..., WorkerProcess]


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


def test_clicks_on_an_image_meet_at_one_worker(
    url: str, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskloop.queue.redis.PATIENCE", 5.0)  # a busy machine must not pass for a busy worker
    start_worker(count=2)
    queue = RedisQueue(url)
    workers = {name: said["pid"] for name, said in queue.workers().items()}
    assert len(workers) == 2
    for image in [f"image {n}" for n in range(12)]:
        home = preferred(image, workers)
        assert home is not None
        for _ in range(3):
            assert queue.call(Job("echo", {"n": image}, affinity=image), 5)["pid"] == workers[home]


@pytest.mark.slow
def test_an_image_is_prepared_where_its_clicks_go_or_by_an_idle_worker(
    url: str, client: redis.Redis, start_worker: StartWorker
) -> None:
    queue = RedisQueue(url)
    for name in ("a", "b"):  # they say that they live, and take nothing
        client.sadd(wire.WORKERS, name)
        client.set(wire.worker_key(name), '{"ready": true}', ex=20)
    home = preferred("image", ["a", "b"])
    assert home is not None
    assert queue.enqueue(Job("echo", {"n": 1}, affinity="image"), Priority.PREPARE)
    assert Queue(wire.own_lane(home, Priority.PREPARE), connection=client).count == 1
    assert queue.depths()["prepare"] == 1
    worker = start_worker(wait=False)
    wait_until(lambda: worker.ran() == [[1]])
    assert queue.depths()["prepare"] == 0


@pytest.mark.slow
def test_a_click_moves_on_when_its_worker_is_busy(url: str, start_worker: StartWorker) -> None:
    worker = start_worker(count=2)
    queue = RedisQueue(url)
    busy, _ = in_background(queue, Job("echo", {"n": "busy", "seconds": 8.0}, affinity="a"), 20)
    wait_until(lambda: worker.ran() == [["busy"]])
    queue.call(Job("echo", {"n": "click"}, affinity="a"), 20)
    assert busy.is_alive()
    busy.join()


@pytest.mark.slow
def test_clicks_that_moved_on_are_taken_first_and_in_their_order(
    url: str, client: redis.Redis, start_worker: StartWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start_worker(count=2, drain=1)
    queue = RedisQueue(url)
    images = {preferred(image, queue.workers()): image for image in map(str, range(64))}
    assert len(images) == 2
    first, second = images.values()
    for image, seconds in ((first, 4.0), (second, 8.0)):
        in_background(queue, Job("echo", {"n": "busy", "seconds": seconds}, affinity=image), 20)
    wait_until(lambda: worker.ran() == [["busy"], ["busy"]])
    shared = Queue(Priority.INTERACTIVE.value, connection=client, serializer=JSONSerializer)
    for n in (1, 2, 3):
        in_background(queue, Job("echo", {"n": n}, affinity=first), 20)
        wait_until(lambda n=n: shared.count == n)  # type: ignore[misc]
    monkeypatch.setattr("maskloop.queue.redis.PATIENCE", 20.0)
    fresh, _ = in_background(queue, Job("echo", {"n": "fresh"}, affinity=first), 20)
    fresh.join()
    assert worker.ran()[2:] == [[1], [2], [3], ["fresh"]]


@pytest.mark.slow
def test_a_click_moves_on_when_its_worker_is_dead(url: str, start_worker: StartWorker) -> None:
    worker = start_worker(count=2)
    queue = RedisQueue(url)
    workers = {name: said["pid"] for name, said in queue.workers().items()}
    home = preferred("a", workers)
    assert home is not None
    process = psutil.Process(workers[home])
    process.kill()
    process.wait(10)  # until its connection is closed Redis may hand it the click, which is then lost with it
    assert queue.call(Job("echo", {"n": "click"}, affinity="a"), 10)["pid"] != workers[home]
    wait_until(lambda: len(worker.workers()) == 2 and home not in worker.workers())


@pytest.mark.slow
def test_clicks_left_at_a_dead_worker_are_handed_over(url: str, client: redis.Redis, start_worker: StartWorker) -> None:
    client.sadd(wire.WORKERS, "gone")
    lanes = [wire.own_lane("gone", priority) for priority in wire.OWN]
    for n, own in enumerate(lanes):
        Queue(own, connection=client, serializer=JSONSerializer).enqueue("echo", {"n": n}, result_ttl=0)
    worker = start_worker()
    wait_until(lambda: worker.ran() == [[0], [1]])
    assert not set(lanes) & {lane.name for lane in Queue.all(connection=client, serializer=JSONSerializer)}
    assert not client.sismember(wire.WORKERS, "gone")
