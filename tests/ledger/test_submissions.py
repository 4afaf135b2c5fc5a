from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from maskloop.ledger import Ledger, Recorded, Region, Submission
from maskloop.ledger.submissions import normal_time

BRUSH = Region("r1", "brushlabels", "Cell", 64, 48, rle=bytes([0, 12, 128, 0, 57, 27, 255]))
POLYGON = Region("r2", "polygonlabels", None, 64, 48, points=((1.0, 2.5), (10.0, 2.5), (4.0, 9.0)))


def submission(
    annotation: int = 7, at: str = "2026-11-23T10:00:00Z", regions: tuple[Region, ...] = (BRUSH,), **more: object
) -> Submission:
    return Submission(
        project=1, task=11, annotation=annotation, updated_at=at, image="/data/a.png", regions=regions, **more
    )  # type: ignore[arg-type]


def test_a_submission_comes_back_as_it_was(ledger: Ledger) -> None:
    assert ledger.record_submission(submission(regions=(BRUSH, POLYGON), completed_by=3)) is Recorded.NEW
    (back,) = ledger.submissions(1)
    assert back.regions == (BRUSH, POLYGON)
    assert (back.task, back.image, back.completed_by, back.cancelled) == (11, "/data/a.png", 3, False)


def test_the_same_event_twice_counts_once(ledger: Ledger) -> None:
    ledger.record_submission(submission())
    assert ledger.record_submission(submission()) is Recorded.KNOWN
    assert ledger.new_submissions(1) == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_newest_form_wins_in_any_order_of_events(ledger: Ledger, order: tuple[int, ...]) -> None:
    forms = [submission(at=f"2026-11-23T10:00:0{k}Z", regions=(BRUSH,) * (k + 1)) for k in range(3)]
    for k in order:
        ledger.record_submission(forms[k])
    assert len(ledger.submissions(1)[0].regions) == 3


def test_times_with_and_without_fractions_compare_right(ledger: Ledger) -> None:
    ledger.record_submission(submission(at="2026-11-23T10:00:00.500000Z"))
    assert ledger.record_submission(submission(at="2026-11-23T10:00:00Z", regions=())) is Recorded.STALE
    assert normal_time("2026-11-23T12:00:00+02:00") == normal_time("2026-11-23T10:00:00Z")
    with pytest.raises(ValueError, match="Invalid isoformat"):
        normal_time("yesterday")


def test_a_deletion_holds_even_when_it_comes_first(ledger: Ledger) -> None:
    ledger.delete_annotations(1, [7])
    assert ledger.record_submission(submission()) is Recorded.DELETED
    ledger.record_submission(submission(annotation=8))
    ledger.delete_annotations(1, [8])
    assert ledger.submissions(1) == []
    assert ledger.new_submissions(1) == 0


def test_a_deleted_task_takes_its_annotations_along(ledger: Ledger) -> None:
    ledger.record_submission(submission())
    ledger.delete_tasks(1, [11])
    assert ledger.submission(1, 7) is None
    assert ledger.record_submission(submission(annotation=9)) is Recorded.DELETED


def test_projects_never_mix(ledger: Ledger) -> None:
    ledger.record_submission(submission())
    other = Submission(project=2, task=11, annotation=7, updated_at="2026-11-23T10:00:00Z", image="b.png")
    ledger.record_submission(other)
    ledger.delete_tasks(2, [11])
    assert [s.project for s in ledger.submissions(1)] == [1]
    assert ledger.projects() == [1, 2]


def test_a_form_that_changed_while_training_stays_new(ledger: Ledger) -> None:
    ledger.record_submission(submission())
    ledger.record_submission(submission(annotation=8))
    looked_at = [(s.annotation, s.updated_at) for s in ledger.submissions(1)]
    ledger.record_submission(submission(at="2026-11-23T11:00:00Z", regions=(POLYGON,)))
    ledger.mark_trained(5, looked_at, project=1)
    assert ledger.new_submissions(1) == 1
    assert ledger.submission(1, 8).training == 5  # type: ignore[union-attr]


def test_a_touch_while_training_is_no_new_lesson(ledger: Ledger) -> None:
    ledger.record_submission(submission())
    looked_at = [(s.annotation, s.updated_at) for s in ledger.submissions(1)]
    assert ledger.record_submission(submission(at="2026-11-23T11:00:00Z", ground_truth=True)) is Recorded.KNOWN
    ledger.mark_trained(5, looked_at, project=1)
    assert ledger.new_submissions(1) == 0
    ledger.record_submission(submission(at="2026-11-23T12:00:00Z", regions=(POLYGON,)))
    ledger.mark_trained(6, looked_at, project=1)
    assert ledger.new_submissions(1) == 1


def test_an_annotation_of_another_task_is_a_new_lesson(ledger: Ledger) -> None:
    ledger.record_submission(submission())
    ledger.mark_trained(5, ledger.known_forms(1).items(), project=1)
    moved = replace(submission(at="2026-11-23T11:00:00Z"), task=77, image="/data/other.png")
    assert ledger.record_submission(moved) is Recorded.CHANGED
    (found,) = ledger.submissions(1)
    assert (found.task, found.image, found.training) == (77, "/data/other.png", None)


def test_the_address_of_an_image_may_change_without_a_new_lesson(ledger: Ledger) -> None:
    """Of an image in a storage, events tell one address and the API another."""
    ledger.record_submission(submission())
    served = replace(submission(), image="/tasks/11/resolve/?fileuri=czM6Ly9hLnBuZw==")
    assert ledger.record_submission(served) is Recorded.KNOWN
    assert ledger.submissions(1)[0].image == served.image


@pytest.mark.parametrize("at", ["garbage", "2026-13-45", "0001-01-01T00:00:00+05:00"])
def test_a_time_that_is_none_is_older_than_any(ledger: Ledger, at: str) -> None:
    assert ledger.record_submission(submission(at=at)) is Recorded.NEW
    assert ledger.record_submission(submission(regions=(POLYGON,))) is Recorded.CHANGED
    assert ledger.record_submission(submission(at=at)) is Recorded.STALE


def test_very_many_deletions_at_once(ledger: Ledger) -> None:
    for number in range(3):
        ledger.record_submission(submission(annotation=number))
    ledger.record_submission(replace(submission(annotation=70_000), task=70_000))
    ledger.delete_annotations(1, [1, *range(100, 3000), 1])
    assert [s.annotation for s in ledger.submissions(1)] == [0, 2, 70_000]
    ledger.delete_tasks(1, range(40_000))
    ledger.delete_tasks(1, range(10))
    assert [s.annotation for s in ledger.submissions(1)] == [70_000]
    assert ledger.record_submission(submission(annotation=2999)) is Recorded.DELETED


def test_a_star_is_no_new_lesson_and_a_skip_never_is(ledger: Ledger) -> None:
    ledger.record_submission(submission())
    ledger.mark_trained(5, [(s.annotation, s.updated_at) for s in ledger.submissions(1)], project=1)
    starred = submission(at="2026-11-23T12:00:00Z", ground_truth=True)
    assert ledger.record_submission(starred) is Recorded.KNOWN
    assert ledger.submission(1, 7).ground_truth  # type: ignore[union-attr]
    ledger.record_submission(submission(annotation=8, regions=(), cancelled=True))
    assert ledger.new_submissions(1) == 0
