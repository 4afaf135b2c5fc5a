"""Jobs that a worker has begun and set aside until what they wait for is there."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from redis import Redis
from rq import Queue
from rq.job import Job as RqJob

from maskloop.queue.pauses import Later
from maskloop.queue.wire import UNREACHABLE, WHY

RETRY_SECONDS = 0.5


class Aside:
    """A worker's jobs that are in no queue for now; each goes back to the front of the one it came from.

    A batch job among them is still this worker's, and found by the sweeper if the worker dies.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._lanes: dict[str, Queue] = {}

    def put(self, job: RqJob, lane: Queue, execution: Any, later: Later) -> None:
        """End this execution of a job, and have it run again when what it waits for is there."""
        with self._redis.pipeline() as pipe:
            execution.delete(job, pipe)
            pipe.hset(job.key, WHY, str(later))
            pipe.execute()
        self._lanes[job.id] = lane
        later.ready.add_done_callback(lambda _: self._resume(job.id))

    def hand_over(self) -> None:
        """Give all to other workers. Where Redis is lost the sweeper finds the batch jobs among them."""
        with contextlib.suppress(*UNREACHABLE):
            for job_id in list(self._lanes):
                if (lane := self._lanes.pop(job_id, None)) is not None:
                    shared = Queue(lane.name.split(":")[0], connection=self._redis)
                    shared.push_job_id(job_id, at_front=True)

    def _resume(self, job_id: str) -> None:
        """In the thread that got what the job waits for. The worker wakes up by what comes into its lane."""
        while (lane := self._lanes.pop(job_id, None)) is not None:
            try:
                lane.push_job_id(job_id, at_front=True)
            except UNREACHABLE:
                self._lanes[job_id] = lane
                time.sleep(RETRY_SECONDS)
