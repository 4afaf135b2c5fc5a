from __future__ import annotations

from maskloop.learn.standing import Standing, gain


def not_asked() -> dict[str, Standing]:
    raise AssertionError("judging again takes a while, and decides nothing here")


def one(live: bool, precision: float, recall: float) -> Standing:
    return Standing(live, 0.5, precision, recall, recall / 2, 20, "")


def test_a_label_that_goes_live_is_a_gain() -> None:
    assert "Cell" in gain({"Cell": one(True, 0.6, 0.5)}, {}, not_asked)
    assert "Cell" in gain({"Cell": one(True, 0.6, 0.5)}, {"Cell": one(False, 0.2, 0.2)}, not_asked)


def test_a_label_that_falls_silent_is_none_whatever_else_goes_live() -> None:
    before = {"Cell": one(True, 0.6, 0.5)}
    assert gain({"Cell": one(False, 0.4, 0.5), "Rod": one(True, 0.9, 0.9)}, before, not_asked) == ""


def test_silence_is_no_gain() -> None:
    assert gain({}, {}, not_asked) == ""
    assert gain({"Cell": one(False, 0.3, 0.1)}, {}, not_asked) == ""


def test_better_proposals_take_the_place_of_those_that_serve_and_about_as_good_ones_do_not() -> None:
    before = {"Cell": one(True, 0.9, 0.9)}  # on the few images that were held out then
    again = {"Cell": one(True, 0.6, 0.6)}
    assert (
        gain({"Cell": one(True, 0.7, 0.7)}, before, lambda: again)
        == "proposals are better: F1 0.60 -> 0.70 on the hold-out"
    )
    assert gain({"Cell": one(True, 0.62, 0.62)}, before, lambda: again) == ""
