from __future__ import annotations

import json
import time

from sqlalchemy import text

from maskloop.ledger import Ledger


def items(*tasks: int) -> list[tuple[int, str, str]]:
    return [(task, "none", json.dumps({"task": task})) for task in tasks]


def test_items_are_claimed_once_in_order_and_counted(ledger: Ledger) -> None:
    batch = ledger.create_batch(1, "v1", items(1, 2, 3))
    first, second = ledger.claim_item("a"), ledger.claim_item("b")
    assert first is not None
    assert second is not None
    assert [first.task, second.task] == [1, 2]
    assert ledger.finish_item(first.id, "a")
    assert ledger.fail_item(second.id, "b", "no such image")
    progress = ledger.progress(batch)
    assert progress is not None
    assert (progress.waiting, progress.running, progress.done, progress.failed, progress.total) == (1, 0, 1, 1, 3)


def test_an_item_whose_worker_died_goes_to_another_and_counts_once(ledger: Ledger) -> None:
    ledger.create_batch(1, "v1", items(1))
    dead = ledger.claim_item("dead", lease_seconds=-1)
    taken = ledger.claim_item("alive")
    assert dead is not None
    assert taken is not None
    assert (taken.id, taken.attempt) == (dead.id, 2)
    assert not ledger.finish_item(dead.id, "dead")
    assert ledger.finish_item(taken.id, "alive")
    assert ledger.claim_item("alive") is None


def test_asking_twice_does_not_do_it_twice(ledger: Ledger) -> None:
    first = ledger.create_batch(1, "v1", items(1, 2))
    second = ledger.create_batch(1, "v1", items(2, 3, 3))
    assert len(ledger.claim_items("a", 10)) == 3
    assert [ledger.progress(b).total for b in (first, second)] == [2, 1]  # type: ignore[union-attr]


def test_what_is_done_can_be_asked_for_again_and_a_retry_stays_open(ledger: Ledger) -> None:
    ledger.create_batch(1, "v1", items(1))
    item = ledger.claim_item("a")
    assert item is not None
    assert ledger.fail_item(item.id, "a", "timeout", retry=True)
    again = ledger.claim_item("a")
    assert again is not None
    ledger.extend_items([again.id], "a", 100)
    ledger.finish_item(again.id, "a")
    assert ledger.batches(open_only=True) == []
    batch = ledger.create_batch(1, "v1", items(1))
    assert ledger.claim_item("a", batches=["another"]) is None
    assert ledger.claim_item("a", batches=[batch]) is not None
    assert ledger.progress("unknown") is None


def test_what_is_asked_for_again_counts_in_both_batches(ledger: Ledger) -> None:
    old = ledger.create_batch(1, "v1", items(1, 2))
    done, failed = ledger.claim_items("a", 2)
    ledger.finish_item(done.id, "a")
    ledger.fail_item(failed.id, "a", "no such image")
    new = ledger.create_batch(1, "v1", items(1, 2))
    found = {p.batch: (p.total, p.waiting, p.done, p.failed) for p in ledger.batches()}
    assert found == {old: (2, 0, 1, 1), new: (2, 2, 0, 0)}
    ledger.finish_items([item.id for item in ledger.claim_items("a", 2)], "a")
    third = ledger.create_batch(1, "v1", items(2))
    assert [p.done for p in map(ledger.progress, (old, new, third)) if p] == [1, 2, 0]
    assert ledger.tasks_by_state() == {"waiting": 1, "running": 0, "done": 3, "failed": 1}


def test_a_request_for_tasks_that_are_all_under_way_is_no_batch(ledger: Ledger) -> None:
    """It would have no tasks and look finished at once."""
    old = ledger.create_batch(1, "v1", items(1, 2))
    ledger.answer_items([item.id for item in ledger.claim_items("a", 1)], "a")
    assert ledger.progress(ledger.create_batch(1, "v1", items(1, 2))) is None
    assert [(p.batch, p.waiting, p.running) for p in ledger.batches()] == [(old, 1, 1)]


def test_an_answer_of_a_silent_process_is_told_from_work_that_it_left(ledger: Ledger) -> None:
    ledger.create_batch(1, "v1", items(1, 2, 3))
    first, second, _ = ledger.claim_items("dead", 3, lease_seconds=-1)
    assert ledger.answer_items([first.id], "dead", -1) == {first.id}
    assert ledger.answer_items([second.id], "another") == set()
    assert [item.answered for item in ledger.claim_items("alive", 3)] == [True, False, False]
    assert ledger.extend_items([first.id], "dead") == set()


def test_what_nobody_holds_is_given_up_by_batch_or_by_age(ledger: Ledger) -> None:
    batch = ledger.create_batch(1, "v1", items(1, 2))
    old = ledger.create_batch(1, "v1", items(3))
    ledger.claim_item("a")
    assert ledger.give_up("too late", batch=batch) == 1
    assert ledger.give_up("too late", created_before=time.time() - 60) == 0
    assert ledger.give_up("too late", created_before=time.time() + 60) == 1
    assert [(p.running, p.failed) for p in map(ledger.progress, (batch, old)) if p] == [(1, 1), (0, 1)]


def test_an_old_batch_is_known_behind_many_newer_ones(ledger: Ledger) -> None:
    old = ledger.create_batch(1, "v1", items(1, 2))
    claimed = ledger.claim_items("a", 2)
    ledger.finish_items([claimed[0].id], "a")
    ledger.finish_items([claimed[1].id], "somebody else")
    for task in range(3, 6):
        newer = ledger.create_batch(1, "v1", items(task))
        ledger.finish_items([item.id for item in ledger.claim_items("a", 1)], "a")
        assert ledger.progress(newer).finished  # type: ignore[union-attr]
    progress = ledger.progress(old)
    assert progress is not None
    assert (progress.done, progress.running) == (1, 1)
    assert [p.batch for p in ledger.batches(open_only=True, limit=2)] == [old]


def test_a_task_that_is_tried_again_later_waits_until_then(ledger: Ledger) -> None:
    ledger.create_batch(1, "v1", items(1, 2))
    first = ledger.claim_item("a")
    assert first is not None
    assert ledger.fail_item(first.id, "a", "the host is away", retry=True, after=60)
    assert [item.task for item in ledger.claim_items("a", 10, lease_seconds=600)] == [2]
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE batch_item SET lease_until = lease_until - 60"))
    assert [item.task for item in ledger.claim_items("a", 10)] == [1]


def test_old_batches_are_forgotten_and_still_counted(ledger: Ledger) -> None:
    old = ledger.create_batch(1, "v1", items(1, 2, 3))
    done, failed, _ = ledger.claim_items("a", 3)
    ledger.finish_item(done.id, "a")
    ledger.fail_item(failed.id, "a", "no such image")
    before = ledger.tasks_by_state()
    ledger.forget_batches(before=time.time() - 60)
    assert ledger.progress(old).total == 3  # type: ignore[union-attr]
    for _ in range(2):
        ledger.forget_batches(before=time.time() + 60)
        assert ledger.tasks_by_state() == before == {"waiting": 0, "running": 1, "done": 1, "failed": 1}
    assert ledger.progress(old).total == 1, "what is under way stays"  # type: ignore[union-attr]
    ledger.finish_items([3], "a")
    ledger.forget_batches(before=time.time() + 60)
    assert ledger.progress(old) is None
    assert ledger.tasks_by_state() == {"waiting": 0, "running": 0, "done": 2, "failed": 1}


def test_what_has_ended_keeps_no_payload(ledger: Ledger) -> None:
    """With its regions a task's payload may be large, and nobody reads it again."""
    ledger.create_batch(1, "v1", items(1, 2, 3, 4))
    done, failed, again, _ = ledger.claim_items("a", 4)
    ledger.finish_item(done.id, "a")
    ledger.fail_item(failed.id, "a", "no such image")
    ledger.fail_item(again.id, "a", "busy", retry=True)
    with ledger.engine.connect() as connection:
        kept = connection.execute(text("SELECT task FROM batch_item WHERE payload <> '' ORDER BY task")).scalars()
        assert list(kept) == [3, 4]


def test_ids_of_64_bits(ledger: Ledger) -> None:
    huge = 2**63 - 1
    ledger.create_batch(huge, "v1", items(huge))
    item = ledger.claim_item("a")
    assert item is not None
    assert (item.project, item.task) == (huge, huge)


def test_a_queue_of_thousands_of_tasks_asked_for_twice(ledger: Ledger) -> None:
    ledger.create_batch(1, "v1", items(*range(3000)))
    ledger.finish_items([item.id for item in ledger.claim_items("a", 2500)], "a")
    again = ledger.create_batch(1, "v1", items(*range(3000)))
    assert ledger.progress(again).waiting == 2500  # type: ignore[union-attr]
