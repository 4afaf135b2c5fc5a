from __future__ import annotations

from maskloop.jobs.handlers import one_by_one
from maskloop.queue.job import JobError, Payload, Result


def test_payloads_run_one_after_the_other_and_a_failure_costs_its_own_only() -> None:
    ran: list[int] = []

    def job(payload: Payload) -> Result:
        ran.append(payload["n"])
        if payload["n"] == 1:
            raise ValueError("the file was replaced")
        return {"n": payload["n"]}

    outcomes = iter(one_by_one(job)([{"n": n} for n in range(3)]))
    assert next(outcomes) == {"n": 0}
    assert ran == [0]
    failed, last = outcomes
    assert isinstance(failed, JobError)
    assert str(failed) == "the file was replaced"
    assert last == {"n": 2}
