"""Events of steps are collected from chunks, and are in order whatever chunk they come from."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import TooExpensive
from common.filters import Value
from repo.columns.builder import EventRecord, build_chunk
from repo.columns.filter_evaluation import EventFields
from repo.engine.scan import Scan, Scanner
from repo.engine.scan_evaluation import TieAdder
from repo.engine.timeline import Timeline
from repo.sequences import step_collector
from repo.sequences.first_values import FirstValues, joint_codes, value_order
from repo.sequences.step_collector import SessionRules, StepCollector
from repo.sequences.step_labels import LabelBits, StepFilters
from tests.chunks import parsed
from tests.example_counts import examples
from tests.unit.test_timeline import ranges

MICROSECONDS = 100
"""The range of all events."""
STEPS = ["a:1", "b:1"]


def record(number: int, user: int, time: int, properties: str = "{}") -> EventRecord:
    return EventRecord(time, user, 1, 1, number.to_bytes(16, "big"), properties)


def collect(
    collector: StepCollector, *chunks: Sequence[EventRecord], adder: TieAdder | None = None
) -> StepCollector:
    filters = collector.filters.all
    scan = Scan(question="funnel", ranges=ranges(0, MICROSECONDS), filters=filters)
    scanner = Scanner(scan, adder or collector, EventFields(), None, None)
    for events in chunks:
        chunk = build_chunk(events)
        scanner.add_parts(chunk, Timeline(scan.ranges).slices(0, MICROSECONDS))
    return collector


def collector_of(*steps: str, **options: object) -> StepCollector:
    filters = StepFilters(
        [parsed(step) if step != "*" else None for step in steps],
        excluded=[parsed("x:1")],
        ignored=[parsed("i:1")],
    )
    return StepCollector(filters=filters, entry_end=50, **options)  # type: ignore[arg-type]


def listed(collector: StepCollector) -> list[tuple[int, int, int]]:
    """The owner, time and labels of all events in order."""
    return [
        event
        for events in collector.batches()
        for event in zip(
            events.owner.tolist(), events.time.tolist(), events.labels.tolist(), strict=True
        )
    ]


def test_events_that_match_a_step_or_end_chains_are_collected() -> None:
    collector = collect(
        collector_of("a:1", "b:1"),
        [
            record(1, 7, 3, '{"a": 1}'),
            record(2, 7, 4, '{"a": 1, "b": 1}'),
            record(3, 7, 5, '{"a": 1, "x": 1}'),
            record(4, 7, 6, '{"c": 1}'),
        ],
        [record(5, 7, 1, '{"b": 1}'), record(6, 2, 9, '{"a": 1}')],
    )
    excluded = LabelBits(2).excluded
    assert listed(collector) == [(2, 9, 1), (7, 1, 2), (7, 3, 1), (7, 4, 3), (7, 5, excluded)]
    assert listed(collect(collector_of("a:1", "b:1"))) == []


def test_a_step_may_be_any_event() -> None:
    collector = collect(collector_of("*", "b:1"), [record(1, 7, 3), record(2, 7, 4, '{"b": 1}')])
    assert listed(collector) == [(7, 3, 1), (7, 4, 3)]


def test_events_at_one_instant_are_ordered_by_their_first_step() -> None:
    properties = ['{"x": 1}', "{}", '{"b": 1}', '{"a": 1, "b": 1}', '{"a": 1}']
    events = [record(n, 7, 3, each) for n, each in enumerate(properties)]
    collector = collect(collector_of("a:1", "b:1", is_strict=True), events)
    assert [labels for _, _, labels in listed(collector)] == [3, 1, 2, 0, LabelBits(2).excluded]


def test_with_strict_steps_all_events_are_collected_but_those_that_are_ignored() -> None:
    events = [record(1, 7, 3, '{"a": 1}'), record(2, 7, 4, '{"i": 1}'), record(3, 7, 5)]
    collector = collect(collector_of("a:1", "b:1", is_strict=True), events)
    assert listed(collector) == [(7, 3, 1), (7, 5, 0)]


def test_any_event_continues_a_session() -> None:
    events = [
        record(1, 7, 3, '{"a": 1}'),
        record(2, 7, 5, '{"i": 1}'),
        record(3, 7, 7, '{"b": 1}'),
        record(4, 7, 10, '{"b": 1}'),
        record(5, 8, 10, '{"b": 1}'),
    ]
    rules = SessionRules(gap=2, complete_until=12)
    collector = collect(collector_of("a:1", "b:1", sessions=rules), events)
    assert listed(collector) == [(0, 3, 1), (0, 7, 2), (1, 10, 2), (2, 10, 2)]
    (batch,) = collector.batches()
    assert batch.is_over is not None
    assert batch.is_over.tolist() == [True, True, False, False]


def test_events_without_a_user_are_counted_if_they_match_a_step_of_the_range() -> None:
    events = [
        record(1, 0, 3, '{"a": 1}'),
        record(2, 0, 3, '{"x": 1}'),
        record(3, 0, 50, '{"b": 1}'),
        record(4, 7, 3, '{"a": 1}'),
    ]
    collector = collect(collector_of("a:1", "b:1"), events)
    assert listed(collector) == [(7, 3, 1)]
    assert collector.events_without_user == 1


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 2**31, 2**32 - 1]), st.integers(0, 9)), max_size=30
    ),
    st.integers(1, 7),
    st.integers(1, 9),
)
def test_batches_of_users_have_all_events_in_order(
    events: list[tuple[int, int]], chunk_size: int, batch_size: int
) -> None:
    records = [record(n, *event, '{"a": 1}') for n, event in enumerate(events)]
    chunks = [records[n : n + chunk_size] for n in range(0, len(records), chunk_size)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_collector, "_BATCH_EVENTS", batch_size)
        patch.setattr(step_collector, "_SAMPLE", 2)
        collector = collect(collector_of("a:1", "b:1"), *chunks)
        assert listed(collector) == sorted((*event, 1) for event in events)


PROPERTIES = ['{"a": 1}', '{"a": 1, "b": 1}', '{"b": 1}', '{"x": 1}', '{"a": 1, "p": 2}', "{}"]


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(
        st.tuples(*[st.integers(1, 2)] * 2, st.integers(0, 2), st.sampled_from(PROPERTIES)),
        max_size=14,
    ),
    st.booleans(),
    st.sampled_from([2, 100]),
)
def test_ties_of_several_chunks_are_in_order_once_they_were_read_again(
    rows: list[tuple[int, int, int, str]], is_strict: bool, batch_size: int
) -> None:
    records = [record(n, user, time, text) for n, (user, time, _, text) in enumerate(rows, 1)]
    parts = [
        [each for each, row in zip(records, rows, strict=True) if row[2] == n] for n in (2, 1, 0)
    ]

    def new_collector() -> StepCollector:
        return collector_of(*STEPS, is_strict=is_strict, by=("p",))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_collector, "_BATCH_EVENTS", batch_size)
        patch.setattr(step_collector, "_SAMPLE", 1)
        expected = ordered(collect(new_collector(), records))
        collector = collect(new_collector(), *parts)
        assert sorted(map(str, ordered(collector))) == sorted(map(str, expected))
        ties = set(zip(*(array.tolist() for array in collector.unordered_ties), strict=True))
        assert bool(ties) >= (ordered(collector) != expected)
        events = [each for each in records if (each.time, each.user) in ties]
        collect(collector, events, adder=TieAdder(collector))
        assert ordered(collector) == expected


def ordered(collector: StepCollector) -> list[tuple[int, int, int, Value | None]]:
    """All events in order with their value, if they match a step."""
    values = [*collector.by_values, None]
    return [
        (owner, time, label, values[by] if label & 3 else None)
        for events in collector.batches()
        for owner, time, label, by in zip(
            events.owner.tolist(),
            events.time.tolist(),
            events.labels.tolist(),
            [] if events.by is None else events.by.tolist(),
            strict=True,
        )
    ]


def test_incomplete_ties_stay_as_they_are() -> None:
    """Some of their events were deleted since."""
    first, second = record(2, 7, 3, '{"a": 1}'), record(1, 7, 3, '{"a": 1, "b": 1}')
    collector = collect(collector_of(*STEPS), [first], [second])
    assert listed(collector) == [(7, 3, 1), (7, 3, 3)]
    collect(collector, [second], adder=TieAdder(collector))
    assert listed(collector) == [(7, 3, 1), (7, 3, 3)]
    collect(collector, [first, second], adder=TieAdder(collector))
    assert listed(collector) == [(7, 3, 3), (7, 3, 1)]
    assert collector.unordered_ties.size == 0


def test_too_many_events_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_collector, "MAX_EVENTS", 2)
    events = [record(n, 7, n, '{"a": 1}') for n in range(3)]
    collect(collector_of("a:1", "b:1"), events[:2])
    with pytest.raises(TooExpensive, match="would read 3 events of steps; the limit is 2"):
        collect(collector_of("a:1", "b:1"), events[:2], events[2:])


def test_too_many_distinct_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in memory, all properties together; values that were there before need none."""
    monkeypatch.setattr(step_collector, "MAX_BYTES", 2_000)
    orders = [record(n, 7, n, f'{{"a": 1, "p": "{n % 4}", "q": {n}}}') for n in range(8)]
    collect(collector_of("*", "b:1", same=[("p",)]), orders, orders)
    with pytest.raises(TooExpensive, match="bytes of distinct values; the limit is 1,000"):
        collect(collector_of("*", "b:1", same=[("p",)], by=("q",)), orders)


def test_equal_values_of_different_chunks_have_equal_codes() -> None:
    collector = collect(
        collector_of("*", "b:1", same=[("p",)], by=("q",)),
        [
            record(1, 1, 1, '{"p": "x", "q": 1.5}'),
            record(2, 1, 2, '{"p": ["y", "x"]}'),
            record(3, 1, 3, '{"p": 5, "q": "1.5"}'),
        ],
        [
            record(4, 1, 4, '{"p": 5.0, "q": true}'),
            record(5, 1, 5, '{"p": "5"}'),
            record(6, 1, 6, '{"p": "y", "q": 1.50}'),
            record(7, 1, 7, '{"p": "x"}'),
        ],
    )
    (events,) = collector.batches()
    assert events.same is not None
    x, y, five, also_five, text, also_y, also_x = events.same.tolist()
    assert (x, y, five) == (also_x, also_y, also_five)
    assert len({x, y, five, text}) == 4
    assert events.by is not None
    values = [collector.by_values[code] if code >= 0 else None for code in events.by.tolist()]
    assert [str(value) for value in values] == ["1.5", "None", "1.5", "True", "None", "1.5", "None"]
    assert events.by[0] == events.by[5] != events.by[2]


def test_codes_of_several_properties_are_missing_if_one_is() -> None:
    first, second = np.array([0, 0, 1, -1, 0], np.int32), np.array([2, 2, 2, 2, -1], np.int32)
    codes = joint_codes([first, second]).tolist()
    assert codes[0] == codes[1] != codes[2]
    assert codes[3:] == [-1, -1]


def test_values_are_ordered_by_type() -> None:
    values = FirstValues(("p",)).values
    assert values == []
    listed: list[Value] = [True, "b", "B", Decimal(2), False, Decimal(-1)]
    ordered = sorted(listed, key=value_order)
    assert ordered == [-1, 2, "B", "b", False, True]
