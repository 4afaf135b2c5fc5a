"""A real worker in a process of its own, with handlers that tests can see into: ``python -m tests.queue.process``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from maskloop.queue import wire
from maskloop.queue.affinity import live_workers
from maskloop.queue.job import Handlers, JobError, Payload, Result
from maskloop.queue.pauses import Later, let_clicks_pass


class OutOfMemoryError(RuntimeError):
    """Named like torch's, which need not be installed here."""


class AcceleratorError(RuntimeError):
    """Likewise."""


def handlers(ran: Path) -> Handlers:
    threads = ThreadPoolExecutor()

    def appears(mark: Path) -> None:
        while not mark.exists():
            time.sleep(0.02)

    def note(payloads: Sequence[Payload]) -> None:
        with ran.open("a") as file:
            file.write(json.dumps([payload.get("n") for payload in payloads]) + "\n")

    def echo(payloads: Sequence[Payload]) -> list[Result | Exception]:
        note(payloads)
        time.sleep(max(payload.get("seconds", 0.0) for payload in payloads))
        return [{"n": payload["n"], "pid": os.getpid()} for payload in payloads]

    def parts(payloads: Sequence[Payload]) -> list[Result | Exception]:
        """A long job that pauses until its mark appears, or for ten seconds."""
        note(payloads)
        until = time.monotonic() + 10
        while time.monotonic() < until and not Path(payloads[0]["until"]).exists():
            let_clicks_pass()
            time.sleep(0.02)
        note(payloads)
        return [{"n": payload["n"]} for payload in payloads]

    def in_turn(payloads: Sequence[Payload]) -> Iterator[Result | Exception]:
        """One after the other, each when its mark appears, or after ten seconds."""
        note(payloads)
        for payload in payloads:
            until = time.monotonic() + 10
            while time.monotonic() < until and not Path(payload["until"]).exists():
                time.sleep(0.02)
            yield {"n": payload["n"]}

    def fetch(payloads: Sequence[Payload]) -> Iterator[Result | Exception]:
        """Each waits for its mark in a thread of its own, as for an image on its way."""
        note(payloads)
        for payload in payloads:
            mark = Path(payload["until"])
            yield (
                {"n": payload["n"]} if mark.exists() else Later(threads.submit(appears, mark), "its mark is on its way")
            )

    def refuse(payloads: Sequence[Payload]) -> list[Result | Exception]:
        return [JobError("the image is not reachable") for _ in payloads]

    def nonsense(payloads: Sequence[Payload]) -> list[Result | Exception]:
        return [{"answer": {1, 2}} for _ in payloads]

    def die(payloads: Sequence[Payload]) -> list[Result | Exception]:
        note(payloads)
        if not Path(payloads[0]["until"]).exists():
            Path(payloads[0]["until"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [{"n": payload["n"]} for payload in payloads]

    def kill_always(payloads: Sequence[Payload]) -> list[Result | Exception]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    def starve(payloads: Sequence[Payload]) -> list[Result | Exception]:
        note(payloads)
        if len(payloads) > 1:
            raise OutOfMemoryError("CUDA out of memory")
        return [{"n": payloads[0]["n"]}]

    def break_device(payloads: Sequence[Payload]) -> list[Result | Exception]:
        note(payloads)
        mark = Path(payloads[0]["until"])
        if not mark.exists():
            mark.touch()
            raise AcceleratorError("CUDA error: an illegal memory access was encountered")
        return [{"n": payload["n"]} for payload in payloads]

    def break_gpu(payloads: Sequence[Payload]) -> list[Result | Exception]:
        """What `break` pretends, on a real GPU: an index that is out of bounds there."""
        import torch

        note(payloads)
        places = torch.tensor([3 if Path(payloads[0]["until"]).exists() else 99], device="cuda")
        Path(payloads[0]["until"]).touch()
        return [{"n": float(torch.arange(4.0, device="cuda")[places])} for _ in payloads]

    return {
        "echo": echo,
        "parts": parts,
        "in turn": in_turn,
        "fetch": fetch,
        "refuse": refuse,
        "nonsense": nonsense,
        "die": die,
        "kill": kill_always,
        "starve": starve,
        "break": break_device,
        "break gpu": break_gpu,
    }


def work(index: int, stamp: Any, url: str, ran: str, drain: int) -> None:
    """What the supervisor starts."""
    from maskloop.queue.supervisor import end_with_parent
    from maskloop.queue.worker import GpuWorker, keep_working

    end_with_parent()
    stamp.value = 0.0
    keep_working(lambda: GpuWorker(url, handlers(Path(ran)), stamp, about=lambda: {"index": index}, drain=drain))


class WorkerProcess:
    """A supervisor with its workers, in a process tree that a test can kill."""

    def __init__(self, url: str, ran: Path, count: int = 1, limit: float = 60.0, drain: int = 8) -> None:
        self.url, self.count, self.ran_file = url, count, ran
        arguments = [url, str(ran), str(count), str(limit), str(drain)]
        self._process = subprocess.Popen([sys.executable, "-W", "error", "-m", "tests.queue.process", *arguments])

    def workers(self) -> dict[str, dict[str, Any]]:
        with wire.connect(self.url) as client:
            return {n: w for n, w in live_workers(client).items() if w["ready"]}

    def wait_until_ready(self, seconds: float = 90.0) -> None:
        until = time.monotonic() + seconds
        while len(self.workers()) < self.count:
            assert time.monotonic() < until, f"only {len(self.workers())} of {self.count} workers came up"
            time.sleep(0.05)

    def ran(self) -> list[list[Any]]:
        return [json.loads(line) for line in self.ran_file.read_text().splitlines()] if self.ran_file.exists() else []

    def terminate(self) -> int:
        self._process.terminate()
        return self._process.wait(30)

    def kill_supervisor(self) -> None:
        self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End it all at once, workers first, as a power cut would."""
        if self._process.poll() is None:
            import psutil

            tree = [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]
            self._process.kill()
            for process in tree:
                if process.is_running():
                    process.kill()
            self._process.wait()


def main() -> None:
    from maskloop.queue.supervisor import Supervisor

    url, ran, count, limit, drain = sys.argv[1:]
    raise SystemExit(Supervisor(work, (url, ran, int(drain)), count=int(count), limit=float(limit)).run())


if __name__ == "__main__":
    main()
