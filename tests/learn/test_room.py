from __future__ import annotations

from maskloop.learn.room import HELD, NEWEST, OLDER, Room


def kept(count: int, seed: int, held: int = 0) -> set[int]:
    """What is left of so many images, the newest first, of which the last few are held out."""
    room, inside = Room(seed), set[int]()
    for number in range(count):
        admission = room.admit(str(number), held=number >= count - held)
        if admission.admitted:
            inside.add(number)
        if admission.leaves is not None:
            inside.remove(int(admission.leaves))
    return inside


def test_a_small_project_is_seen_whole() -> None:
    assert kept(NEWEST + OLDER + HELD, 1, held=HELD) == set(range(NEWEST + OLDER + HELD))


def test_of_a_large_project_the_newest_and_some_others_drawn_by_lot_find_room() -> None:
    found = kept(3000, 1)
    assert len(found) == NEWEST + OLDER
    assert set(range(NEWEST)) < found
    assert max(found) > 2000, "also very old ones"
    assert found == kept(3000, 1)
    assert found != kept(3000, 2)


def test_what_is_held_out_takes_no_room_from_the_others_and_has_its_own_bound() -> None:
    found = kept(1000, 1, held=100)
    assert len(found) == NEWEST + OLDER + HELD
    assert len([number for number in found if number >= 900]) == HELD
