"""Rows that are tied, their ids, and how ids are looked up after a merge."""

from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from repo.columns.builder import EventRecord, build_chunk
from repo.columns.chunk import Chunk
from repo.columns.chunk_operations import concatenate, select, without_properties
from repo.columns.tied_events import Ties, tied_rows, ties_without_ids, with_ids, without_untied_ids
from tests.columns import assert_equal_chunks
from tests.example_counts import examples


def event(
    time: int, user: int, number: int, properties: str = "{}", name: int = 1, xid: int = 1
) -> EventRecord:
    return EventRecord(time, user, name, xid, number.to_bytes(16), properties)


def reading(*pages: Chunk) -> Callable[[Ties], Sequence[Chunk]]:
    """A function that returns events of ties in pages."""
    return lambda _: pages


def ids(chunk: Chunk) -> list[int]:
    return [int.from_bytes(bytes(each)) for each in chunk.event_id]


def stored(*events: EventRecord) -> Chunk:
    """A chunk as it is read from tables."""
    return without_untied_ids(build_chunk(events))


def test_rows_of_one_user_and_time_are_tied_and_keep_their_ids() -> None:
    chunk = build_chunk(
        [event(1, 1, 10), event(1, 1, 11), event(1, 2, 12), event(2, 2, 13), event(2, 2, 14)]
    )
    assert tied_rows(chunk).tolist() == [True, True, False, True, True]
    assert ids(without_untied_ids(chunk)) == [10, 11, 0, 13, 14]


def test_rows_without_a_user_are_not_tied() -> None:
    chunk = build_chunk([event(1, 0, 10), event(1, 0, 11)])
    assert tied_rows(chunk).tolist() == [False, False]
    assert ids(without_untied_ids(chunk)) == [0, 0]


def test_rows_that_are_tied_with_another_chunk_keep_their_ids() -> None:
    chunk = build_chunk([event(1, 1, 10), event(2, 1, 11)])
    assert ids(without_untied_ids(chunk, np.array([False, True]))) == [0, 11]


def test_empty_chunks_have_no_ties() -> None:
    chunk = without_untied_ids(build_chunk([]))
    assert tied_rows(chunk).tolist() == []
    assert ties_without_ids(chunk).time.tolist() == []


def test_ties_of_which_a_row_lacks_its_id_are_returned_once() -> None:
    chunk = concatenate(
        [
            stored(event(1, 1, 10), event(1, 2, 11), event(3, 3, 12), event(3, 3, 13)),
            stored(event(1, 1, 14), event(1, 1, 15), event(2, 2, 16), event(5, 0, 17)),
            stored(event(1, 2, 18), event(3, 3, 19), event(5, 0, 20)),
        ]
    )
    ties = ties_without_ids(chunk)
    assert (ties.time.tolist(), ties.user.tolist()) == ([1, 1, 3], [1, 2, 3])
    assert ids(chunk) == [0, 14, 15, 0, 0, 0, 0, 12, 13, 0, 0]


def test_ids_are_assigned_by_name_and_transaction() -> None:
    first = event(1, 1, 30, '{"a": 1}', name=7)
    second = event(1, 1, 20, '{"a": 2}', name=8)
    elsewhere = event(1, 1, 25, '{"a": 3}', name=9)
    chunk = concatenate([stored(first), stored(second)])
    complete = with_ids(chunk, reading(build_chunk([first, elsewhere, second])))
    assert ids(complete) == [20, 30]
    assert_equal_chunks(complete, build_chunk([first, second]))


def test_ids_of_events_with_equal_fields_are_assigned_by_properties() -> None:
    first, second = event(1, 1, 30, '{"a": ["x", 1.5]}'), event(1, 1, 20, '{"a": ["y", 1.5]}')
    elsewhere = event(1, 1, 10, '{"a": "z"}')
    complete = with_ids(
        concatenate([stored(first), stored(second)]),
        reading(build_chunk([first, second, elsewhere])),
    )
    assert_equal_chunks(complete, build_chunk([first, second]))


def test_ids_that_other_rows_have_are_not_assigned_twice() -> None:
    events = [event(1, 1, number) for number in (10, 20, 30)]
    chunk = concatenate([stored(*events[:2]), stored(events[2])])
    assert ids(chunk) == [0, 10, 20]
    assert ids(with_ids(chunk, reading(build_chunk(events)))) == [10, 20, 30]


def test_ids_are_assigned_after_properties_were_dropped() -> None:
    events = [event(1, 1, 30, '{"a": 1}'), event(1, 1, 20, '{"a": 2}')]
    chunk = without_properties(concatenate([stored(each) for each in events]))
    assert ids(with_ids(chunk, reading(build_chunk(events)))) == [20, 30]


def test_rows_whose_events_were_dropped_stay_without_ids() -> None:
    first, second = event(1, 1, 30), event(1, 1, 20, name=2)
    chunk = concatenate([stored(first), stored(second)])
    complete = with_ids(chunk, reading(build_chunk([first])))
    assert (ids(complete), complete.name.tolist()) == ([0, 30], [2, 1])
    assert ids(with_ids(chunk, reading(build_chunk([])))) == [0, 0]


def test_properties_decide_also_where_events_come_in_several_pages() -> None:
    first, second = event(1, 1, 30, '{"a": 1}'), event(1, 1, 20, '{"a": 2}', xid=2)
    elsewhere = event(1, 1, 10, '{"a": 5}')
    chunk = concatenate([stored(first), stored(second)])
    pages = [build_chunk([each]) for each in (elsewhere, second, first)]
    assert_equal_chunks(with_ids(chunk, reading(*pages)), build_chunk([first, second]))


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(
        st.tuples(*[st.integers(0, 2)] * 3, st.sampled_from(['{"a": 1}', "{}", '{"a": ["x", 2]}'])),
        max_size=12,
    ),
    st.data(),
)
def test_a_merge_with_ids_has_the_order_of_all_events(
    rows: list[tuple[int, int, int, str]], data: st.DataObject
) -> None:
    parts: list[list[EventRecord]] = [[], [], []]
    for number, (time, user, name, properties) in enumerate(rows, 1):
        part = data.draw(st.integers(0, 2))
        # The third part is in another chunk, of another transaction.
        parts[part].append(event(time, user, number, properties, name, xid=part // 2))
    merged = concatenate([stored(*part) for part in parts[:2]])
    ties = set(zip(*(array.tolist() for array in ties_without_ids(merged)), strict=True))
    in_ties = [each for part in parts for each in part if (each.time, each.user) in ties]
    in_ties.sort(key=lambda each: each.event_id)
    size = data.draw(st.sampled_from([1, 3, 100]))
    pages = [build_chunk(in_ties[n : n + size]) for n in range(0, len(in_ties), size)]
    complete = with_ids(merged, reading(*pages))
    expected = without_untied_ids(build_chunk(parts[0] + parts[1]))
    # Events without a user are in no certain order.
    has_user = complete.user != 0
    assert_equal_chunks(select(complete, has_user), select(expected, expected.user != 0))
    assert len(complete) == len(expected)
