"""Recounted rows of slots and spans."""

import numpy as np

from repo.verify.recount import ALL, Records, Recount, merge
from repo.verify.snapshot import Span


def records(*rows: tuple[int, int, int, int]) -> Records:
    """Records from (slot, name_id, ordinal, events)."""
    slots, names, ordinals, events = np.array(rows, np.int64).reshape(-1, 4).T
    return Records(slots, names, ordinals.astype(np.uint32), events)


def counted(*parts: Records) -> dict[int, tuple[int, list[int]]]:
    recount = Recount()
    for part in parts:
        recount.add(part)
    return {name: (row.events, row.users.tolist()) for name, row in recount.rows().items()}


def test_rows_are_counted_by_name_and_for_all_names() -> None:
    part = records((4, 1, 7, 2), (4, 2, 7, 1), (5, 1, 8, 3))
    assert counted(part) == {ALL: (6, [7, 8]), 1: (5, [7, 8]), 2: (1, [7])}


def test_parts_add_up() -> None:
    many = [records((slot, 1, slot % 3 + 1, 1)) for slot in range(40)]
    assert counted(*many) == {ALL: (40, [1, 2, 3]), 1: (40, [1, 2, 3])}


def test_events_without_a_user_count_as_events_alone() -> None:
    assert counted(records((4, 1, 0, 2), (4, 1, 7, 1))) == {ALL: (3, [7]), 1: (3, [7])}
    assert counted(records()) == {}


def test_a_span_has_the_records_of_its_slots() -> None:
    part = records((4, 1, 7, 1), (5, 1, 7, 2), (6, 1, 7, 4)).of_span(Span(5, 6))
    assert part.events.tolist() == [2]


def test_merged_ordinals_are_sorted_and_unique() -> None:
    ordinals = [np.array([5, 9], np.uint32), np.array([1, 5], np.uint32)]
    assert merge(ordinals).tolist() == [1, 5, 9]
