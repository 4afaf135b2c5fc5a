from __future__ import annotations

from maskloop.ledger import Ledger


def test_the_label_config_and_the_poll_are_kept_per_project(ledger: Ledger) -> None:
    assert ledger.label_config(1) is None
    assert ledger.polled(1) == ("", 0.0)
    ledger.record_poll(1, "2026-11-23T12:00:00.000000Z")
    ledger.record_project(1, "<View/>")
    ledger.record_project(1, "<View></View>")
    assert ledger.label_config(1) == "<View></View>"
    assert ledger.polled(1)[0] == "2026-11-23T12:00:00.000000Z"


def test_a_project_that_shall_be_trained_is_known(ledger: Ledger) -> None:
    """Its events may all have been lost: only a known project is asked for them."""
    ledger.request_training(42, "Start Training")
    assert ledger.projects() == [42]
    assert ledger.polled(42) == ("", 0.0)
    ledger.record_project(42, "<View/>")
    ledger.request_training(42, "Start Training")
    assert ledger.label_config(42) == "<View/>"
