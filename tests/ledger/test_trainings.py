from __future__ import annotations

import threading
import time

import pytest

from maskloop.ledger import Ledger, Signal, TrainingState, trainings


def test_many_requests_make_one_training(ledger: Ledger) -> None:
    first = ledger.request_training(1, "10 new submissions", not_before=time.time() + 1000)
    again = ledger.request_training(1, "START_TRAINING")
    assert again.id == first.id
    assert ledger.claim_training("me").id == first.id  # type: ignore[union-attr]


def test_a_training_waits_for_its_time_and_for_the_running_one(ledger: Ledger) -> None:
    ledger.request_training(1, "later", not_before=time.time() + 1000)
    assert ledger.claim_training("me") is None
    ledger.request_training(1, "now")
    running = ledger.claim_training("me")
    assert running is not None
    ledger.request_training(1, "during")
    assert ledger.claim_training("other") is None
    ledger.request_training(2, "another project")
    assert ledger.claim_training("other").project == 2  # type: ignore[union-attr]
    assert ledger.finish_training(running.id, "me", TrainingState.KEPT, "not better")
    assert ledger.claim_training("other").project == 1  # type: ignore[union-attr]


def test_of_many_who_claim_at_once_one_gets_it(url: str) -> None:
    book = Ledger(url)
    book.request_training(1, "test")
    got: list[object] = []

    def claim(name: str) -> None:
        own = Ledger(url)
        got.append(own.claim_training(name))
        own.close()

    threads = [threading.Thread(target=claim, args=(f"t{k}",)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one is not None for one in got) == 1
    book.close()


def test_a_training_whose_trainer_died_is_taken_up_and_at_last_given_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "LEASE_SECONDS", -1.0)
    ledger.request_training(1, "test")
    for attempt in range(1, trainings.LAST_ATTEMPT + 1):
        claimed = ledger.claim_training(f"trainer {attempt}")
        assert claimed is not None
        assert claimed.attempt == attempt
    assert ledger.claim_training("one more") is None
    (only,) = ledger.trainings(1)
    assert only.state is TrainingState.FAILED


def test_who_lost_its_training_cannot_finish_it(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.request_training(1, "test")
    first = ledger.claim_training("first")
    assert first is not None
    monkeypatch.setattr(trainings, "LEASE_SECONDS", -1.0)
    assert ledger.claim_training("second") is not None
    assert ledger.report_progress(first.id, "first", 0.5, "") is Signal.LOST
    assert not ledger.finish_training(first.id, "first", TrainingState.PROMOTED, "", "v")
    assert ledger.finish_training(first.id, "second", TrainingState.PROMOTED, "", "v")
    assert ledger.training(first.id).version == "v"  # type: ignore[union-attr]


def test_cancelling_drops_what_waits_and_stops_what_runs(ledger: Ledger) -> None:
    ledger.request_training(1, "test")
    running = ledger.claim_training("me")
    assert running is not None
    assert ledger.report_progress(running.id, "me", 0.1, "") is Signal.GO_ON
    ledger.request_training(1, "another")
    assert ledger.cancel_training(1) == 2
    assert ledger.report_progress(running.id, "me", 0.2, "") is Signal.CANCEL
    ledger.finish_training(running.id, "me", TrainingState.CANCELLED, "cancelled")
    assert ledger.claim_training("me") is None
    assert ledger.last_training_at(1) > 0
    assert ledger.last_training_at(2) == 0


def test_a_training_that_was_cancelled_before_it_began_starts_the_cooldown(ledger: Ledger) -> None:
    ledger.request_training(1, "test", not_before=time.time() + 1000)
    assert ledger.last_training_at(1) == 0
    ledger.cancel_training(1)
    assert time.time() - ledger.last_training_at(1) < 100


def test_promotions_are_remembered(ledger: Ledger) -> None:
    ledger.record_promotion(1, "b", "a", "gate")
    ledger.record_promotion(1, "a", "b", "rollback")
    assert [(p.version, p.by) for p in ledger.promotions(1)] == [("a", "rollback"), ("b", "gate")]


def test_the_newest_promotion_of_a_project_is_untold_until_label_studio_was_told(ledger: Ledger) -> None:
    ledger.record_promotion(1, "a", "base", "gate", told=False)
    ledger.record_promotion(1, "b", "a", "gate", told=False)
    ledger.record_promotion(2, "c", "base", "gate", told=False)
    ledger.record_promotion(2, "base", "c", "rollback")
    (untold,) = ledger.untold()
    assert (untold.project, untold.version) == (1, "b")
    ledger.record_told(untold, True)
    assert ledger.untold() == []


def test_the_part_of_an_image_never_changes(ledger: Ledger) -> None:
    ledger.record_parts(1, {"a": "train", "b": "holdout"})
    ledger.record_parts(1, {"a": "holdout", "c": "train"})
    assert ledger.parts(1) == {"a": "train", "b": "holdout", "c": "train"}
    assert ledger.parts(2) == {}


def test_a_persons_wish_goes_before_those_that_wait(ledger: Ledger) -> None:
    for waiting, not_before in (("10 new", time.time() + 1000), ("10 new", time.time() - 1), ("Start Training", 0.0)):
        ledger.request_training(1, waiting, not_before)
        assert ledger.request_training(1, "by hand").trigger == "by hand"
        for later, at in (("Start Training", 0.0), ("20 new", time.time() - 2000)):
            assert ledger.request_training(1, later, at).trigger == "by hand"
        claimed = ledger.claim_training("a")
        assert claimed is not None
        assert claimed.trigger == "by hand"
        assert ledger.is_training(1)
        ledger.finish_training(claimed.id, "a", TrainingState.KEPT, "")
        assert not ledger.is_training(1)
