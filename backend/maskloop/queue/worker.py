"""The process that holds a model and runs jobs: RQ's SimpleWorker, never forked, draining what waits."""

from __future__ import annotations

import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from rq import Queue, SimpleWorker
from rq.exceptions import DequeueTimeout, NoSuchJobError
from rq.job import Job as RqJob
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import WorkerStatus

from maskloop.queue import wire
from maskloop.queue.aside import Aside
from maskloop.queue.heartbeat import Alive, Stamp
from maskloop.queue.job import Handlers, JobError, Priority, Result
from maskloop.queue.pauses import Later, serve_pauses
from maskloop.queue.sweeper import SWEEP_SECONDS, relieve, sweep
from maskloop.queue.together import DeviceLost, run_together
from maskloop.queue.wire import UNREACHABLE

if TYPE_CHECKING:
    from types import FrameType

log = logging.getLogger(__name__)

RECONNECT_SECONDS = 0.5
DEQUEUE_SECONDS = 1
DEVICE_LOST = 70
"""Exit status after a device error: a new process may work, this one never will."""


def keep_working(make: Callable[[], GpuWorker]) -> None:
    """One worker after the other in this process, until one is asked to stop: Redis comes and goes, the model stays.

    A worker that lost its connection cannot know what became of its books; a new one has a new
    name, and what the old one left is found as that of any dead worker.
    """
    worker: GpuWorker | None = None
    while worker is None or not worker.asked_to_stop:
        try:
            worker = make()
            worker.run()
        except UNREACHABLE as error:
            log.warning("Redis does not answer or refuses: %s", error)
            time.sleep(RECONNECT_SECONDS)


class GpuWorker(SimpleWorker):  # type: ignore[misc]
    """One process, one model, one job (or one drained batch of clicks) at a time.

    ``handlers`` is the allow-list: a job of any other name is answered with an error and no code named by Redis is
    ever imported. Construct it when the model is warm, then :meth:`run`.
    ``about`` is what its heartbeat tells (the versions loaded), ``free`` empties the device's cache, ``drain`` is the
    most clicks taken at once, ``stamp`` is watched from outside.
    """

    execution: Any

    def __init__(
        self,
        url: str,
        handlers: Handlers,
        stamp: Stamp,
        about: Callable[[], dict[str, Any]] = dict,
        free: Callable[[], None] = lambda: None,
        drain: int = 8,
    ) -> None:
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._handlers = handlers
        self._stamp = stamp
        self._free = free
        self._drain = drain
        self._alive = Alive(url, name, about)
        super().__init__(
            wire.lanes_of(name),
            name=name,
            connection=wire.connect(url, blocking=DEQUEUE_SECONDS),
            serializer=JSONSerializer,
            maintenance_interval=SWEEP_SECONDS,
            worker_ttl=60,
            log_job_description=False,
        )
        self.log_result_lifespan = False
        self._aside = Aside(self.connection)

    @property
    def dequeue_timeout(self) -> int:
        return DEQUEUE_SECONDS

    @property
    def asked_to_stop(self) -> bool:
        return bool(self._stop_requested)

    def run(self) -> None:
        """Work until SIGTERM or SIGINT (what runs is finished) or until Redis is lost.

        SystemExit(DEVICE_LOST) after a device error.
        """
        serve_pauses(self._answer_clicks)
        self._alive.say(ready=True)
        self._alive.start()
        try:
            self.work(logging_level="WARNING")
        finally:
            self._alive.forget()
            self._aside.hand_over()

    def subscribe(self) -> None:
        """No ear for RQ's remote commands: a worker is stopped by its supervisor, not through Redis."""

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Stop after what runs. RQ's own handler would leave from between pop and start, and lose that job."""
        self._stop_requested = True

    def run_maintenance_tasks(self) -> None:
        sweep(self.connection)
        super().run_maintenance_tasks()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[RqJob, Queue] | None:
        """The next job, or None when asked to stop. RQ's own loop never looks at the request while it waits."""
        self.set_state(WorkerStatus.IDLE)
        wait, idle = 0.5, False
        while not self._stop_requested:
            try:
                self.heartbeat()
                if self.should_run_maintenance_tasks:
                    self.run_maintenance_tasks()
                if idle:
                    relieve(self.connection, self.name)
                found: tuple[RqJob, Queue] | None = self.queue_class.dequeue_any(
                    self._ordered_queues,
                    timeout,
                    connection=self.connection,
                    serializer=self.serializer,
                )
                return found
            except DequeueTimeout:
                idle = True
            except UNREACHABLE as error:
                log.warning("Redis does not answer or refuses (%s); trying again in %g s", error, wait)
                time.sleep(wait)
                wait = min(2 * wait, 4.0)
        self._alive.stop()
        return None

    def execute_job(self, job: RqJob, queue: Queue) -> None:
        """Run a job, together with the clicks of the same name that wait already; also in the pause of another.

        Each is answered as soon as its handler has its outcome, or set aside. The stamp is that of the last progress.
        """
        name = wire.job_name(job)
        if name not in self._handlers:
            log.error("refused a job that no handler is for: %r", name)
            self._reply([job], [JobError(f"no worker knows a job named {name!r}")])
            job.delete()
            return
        interrupted, since = self.execution, self._stamp.value
        self._stamp.value = time.monotonic()
        try:
            taken = [(job, queue), *self._waiting_like(name, queue)]
            executions = [self._begin(job) for job, _ in taken]
            unanswered = {n: job for n, (job, _) in enumerate(taken)}
            later: dict[int, Later] = {}
            try:
                for n, outcome in run_together(self._handlers[name], [job.args[0] for job, _ in taken], self._free):
                    if isinstance(outcome, Later):
                        later[n] = outcome
                    else:
                        self._reply([unanswered.pop(n)], [outcome])
                    self._stamp.value = time.monotonic()
            except DeviceLost as error:
                self._give_up(list(unanswered.values()), queue, error)
            for n, ((job, lane), execution) in enumerate(zip(taken, executions, strict=True)):
                if n in later:
                    self._aside.put(job, lane, execution, later[n])
                else:
                    job.ended_at = now()
                    self.handle_job_success(job, lane, lane.started_job_registry, execution)
            self.set_state(WorkerStatus.BUSY if interrupted else WorkerStatus.IDLE)
        finally:
            self.execution = interrupted
            self._stamp.value = time.monotonic() if since else 0.0

    def _answer_clicks(self) -> None:
        """In the pause of a batch job, which is progress: the clicks that wait, together where they can be."""
        self._stamp.value = time.monotonic()
        while (found := self._waiting_click()) is not None:
            self.execute_job(*found)

    def _give_up(self, jobs: list[RqJob], queue: Queue, error: DeviceLost) -> NoReturn:
        """End the process; a batch job stays pending, and the sweeper gives it to another."""
        log.critical("the device failed: %s; this process ends and must be restarted", error)
        if queue.name != Priority.BATCH.value:
            self._reply(jobs, [JobError("the device failed and the worker restarts; try again")] * len(jobs))
        raise SystemExit(DEVICE_LOST) from error

    def _waiting_like(self, name: str, queue: Queue) -> list[tuple[RqJob, Queue]]:
        """More clicks of the same name, without ever waiting for one."""
        more: list[tuple[RqJob, Queue]] = []
        if queue.name in {lane.name for lane in self._click_lanes}:
            while len(more) + 1 < self._drain and (found := self._waiting_click(name)) is not None:
                more.append(found)
        return more

    @property
    def _click_lanes(self) -> list[Queue]:
        return list(self.queues[:2])

    def _waiting_click(self, name: str | None = None) -> tuple[RqJob, Queue] | None:
        """The next click, if one waits; only one of that ``name`` if it is given."""
        for lane in self._click_lanes:
            # Not Queue.pop_job_id: in RQ 3.0.0 it raises ValueError on an empty queue.
            while (found := self.connection.lpop(lane.key)) is not None:
                job_id = wire.as_text(found)
                try:
                    job = self.job_class.fetch(job_id, self.connection, self.serializer)
                except NoSuchJobError:  # it expired or was superseded
                    continue
                if name is None or wire.job_name(job) == name:
                    return job, lane
                lane.push_job_id(job_id, at_front=True)
                break
        return None

    def _begin(self, job: RqJob) -> Any:
        execution = self.prepare_execution(job)
        self.prepare_job_execution(job)
        job.started_at = now()
        return execution

    def _reply(self, jobs: list[RqJob], outcomes: list[Result | Exception]) -> None:
        """Answer first, keep RQ's books after: the annotator waits for the answer only."""
        with self.connection.pipeline() as pipe:
            for job, outcome in zip(jobs, outcomes, strict=True):
                pipe.rpush(wire.reply_key(job.id), wire.pack_outcome(outcome))
                pipe.expire(wire.reply_key(job.id), wire.REPLY_SECONDS)
                pipe.hdel(wire.PENDING, job.id)
                if once := job.meta.get("once"):
                    pipe.delete(once)
            pipe.execute()
