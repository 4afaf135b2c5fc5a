from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskloop.learn.islands import Proposal
from maskloop.learn.samples import Sample, Target
from maskloop.learn.standing import Standing, gain, stand
from maskloop.segment.prompt import Mask

SIZE = (60, 60)


def blot(row: int, column: int = 5) -> Mask:
    mask = np.zeros(SIZE, bool)
    mask[row : row + 10, column : column + 20] = True
    return mask


def tried(found: Sequence[bool], per_image: int = 1, wrong: int = 0) -> list[tuple[Sample, list[Proposal]]]:
    """Images with the same number of objects, which of them are proposed, and some wrong masks on the first image."""
    result = []
    for first in range(0, len(found), per_image):
        masks = [blot(15 * k) for k in range(per_image)]
        targets = tuple(Target(1, str(k), "Cell", SIZE, np.packbits(m).tobytes()) for k, m in enumerate(masks))
        sample = Sample(f"{first}", 1, "a.png", np.zeros((*SIZE, 3), np.uint8), targets)
        proposals = [Proposal(m, "Cell", 0.9) for k, m in enumerate(masks) if found[first + k]]
        proposals += [Proposal(blot(10 * k, 35), "Cell", 0.9) for k in range(wrong if first == 0 else 0)]
        result.append((sample, proposals))
    return result


def test_a_few_lucky_hits_make_no_label_live() -> None:
    on_one_image = stand("Cell", tried([True, True, False, False], 4, wrong=1), [])
    assert not on_one_image.live
    assert on_one_image.why == "4 held-out objects on 1 images; 4 on 3 are needed"
    half = stand("Cell", tried([True, True, True, False, False], wrong=1), [])
    assert not half.live
    assert (half.recall, half.precision) == (0.6, 0.75)
    assert half.why == (
        "finds 60% of 5 held-out objects on 5 images (surely 33%, 40% are needed), "
        "75% of its masks are right (surely 43%, 50% are needed)"
    )


def test_good_proposals_are_live_on_five_images_already() -> None:
    assert stand("Cell", tried([True, True, True, True, False]), []).live
    assert stand("Cell", tried([True] * 5, wrong=1), []).live
    assert stand("Cell", tried([True] * 4, wrong=0), []).live


def test_many_objects_of_few_images_are_not_many_proofs() -> None:
    share = [True, True, False, False]
    assert not stand("Cell", tried(share * 3, 4), []).live
    assert stand("Cell", tried(share * 30, 4), []).live


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
