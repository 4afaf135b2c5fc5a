"""What went into an answer, with a real ledger and Label Studio's part played behind a socket."""

from __future__ import annotations

import threading
import time

import pytest

from maskloop.jobs import unconfirmed as module
from maskloop.jobs.unconfirmed import Unconfirmed
from maskloop.ledger import BatchItem, Ledger
from tests.jobs.shelf import Shelf

OVER = threading.Event()


def claimed(ledger: Ledger, *tasks: int, owner: str = "web") -> list[BatchItem]:
    ledger.create_batch(3, "v1", [(task, "a box", "{}") for task in tasks])
    return ledger.claim_items(owner, len(tasks))


def states(ledger: Ledger) -> tuple[int, int, int]:
    (progress,) = ledger.batches()
    return progress.waiting, progress.running, progress.done


def test_an_answer_is_done_as_far_as_it_is_stored(ledger: Ledger, shelf: Shelf) -> None:
    items, watch = claimed(ledger, 1, 2, 3), Unconfirmed(ledger, shelf.client, "web")
    assert watch.expect(items, 30) == {item.id for item in items}
    watch.look(OVER)
    assert states(ledger) == (0, 3, 0)
    shelf.store(1, 2)
    watch.look(OVER)
    assert states(ledger) == (0, 1, 2)
    shelf.store(3)
    watch.look(OVER)
    assert states(ledger) == (0, 0, 3)


def test_a_large_answer_that_was_never_sent_is_found_as_soon_as_a_small_one(ledger: Ledger, shelf: Shelf) -> None:
    """The process died while it sent: nobody renews the claims, however many there are."""
    Unconfirmed(ledger, shelf.client, "dead").expect(claimed(ledger, *range(1, 501), owner="dead"), 0.05)
    time.sleep(0.1)
    taken = ledger.claim_items("alive", 500)
    assert len(taken) == 500
    assert all(item.answered for item in taken)


def test_claims_are_renewed_and_after_the_sending_for_as_long_as_storing_may_take(
    ledger: Ledger, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Unconfirmed(ledger, shelf.client, "web")
    watch.expect(claimed(ledger, 1, 2), 0.2)
    watch.renew(5.0)
    time.sleep(0.3)
    assert ledger.claim_item("another") is None
    monkeypatch.setattr(module, "SENT_SECONDS", 0.0)
    watch.renew(0.01)
    time.sleep(0.1)
    assert ledger.claim_item("another") is None


def test_an_answer_of_a_dead_process_is_waited_for_only_while_more_of_it_is_stored(
    ledger: Ledger, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.3)
    Unconfirmed(ledger, shelf.client, "dead").expect(claimed(ledger, *range(1, 7), owner="dead"), -1)
    watch = Unconfirmed(ledger, shelf.client, "alive")
    for item in ledger.claim_items("alive", 6):
        watch.adopt(item, 30)
    for task in range(1, 5):
        shelf.store(task)
        watch.look(OVER)
        assert states(ledger) == (0, 6 - task, task)
        time.sleep(0.15)
    time.sleep(0.3)
    watch.look(OVER)
    assert states(ledger) == (2, 0, 4)
    again = ledger.claim_items("alive", 6)
    assert [(item.task, item.answered) for item in again] == [(5, False), (6, False)]


def test_what_another_process_took_over_may_not_go_into_the_answer(ledger: Ledger, shelf: Shelf) -> None:
    for client in (shelf.client, None):
        items = claimed(ledger, 1, 2, owner="slow")
        ledger.extend_items([items[0].id], "slow", -1)
        assert ledger.claim_item("quick") is not None
        assert Unconfirmed(ledger, client, "slow").expect(items, 30) == {items[1].id}
        ledger.finish_items([items[0].id], "quick")
        ledger.finish_items([items[1].id], "slow")


def test_a_label_studio_that_cannot_be_asked_is_not_taken_for_one_that_has_nothing(
    ledger: Ledger, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.2)
    items = claimed(ledger, 1)
    ledger.answer_items([items[0].id], "web")
    watch = Unconfirmed(ledger, shelf.client, "web")
    watch.adopt(items[0], 30)
    time.sleep(0.3)
    monkeypatch.setattr(shelf.client, "url", "http://127.0.0.1:9")
    shelf.client.__dict__.pop("_sdk", None)
    with pytest.raises(module.Unreachable):
        watch.look(OVER)
    assert states(ledger) == (0, 1, 0)
    monkeypatch.undo()
    shelf.client.__dict__.pop("_sdk", None)
    watch.look(OVER)
    assert states(ledger) == (0, 1, 0)


def test_a_token_that_is_refused_does_not_keep_tasks_for_ever(
    ledger: Ledger, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    (item,), shelf.refuses = claimed(ledger, 1), True
    watch = Unconfirmed(ledger, shelf.client, "web")
    watch.adopt(item, 30)
    watch.look(OVER)
    assert states(ledger) == (1, 0, 0)
