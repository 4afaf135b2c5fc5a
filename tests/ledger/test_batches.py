from __future__ import annotations

import json

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
    assert ledger.claim_item("a", batch=batch) is not None
    assert ledger.progress("unknown") is None


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
