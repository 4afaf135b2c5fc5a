"""Which worker a click or an image goes to, against a real Redis and real worker processes."""

from __future__ import annotations

import psutil
import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from maskloop.queue import wire
from maskloop.queue.affinity import preferred
from maskloop.queue.job import Job, Priority
from maskloop.queue.redis import RedisQueue
from tests.queue.waiting import StartWorker, in_background, wait_until
from tests.redis_server import needs_redis

pytestmark = needs_redis


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
