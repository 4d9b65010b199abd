"""Cohorts of random events agree with plain Python."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from common.questions.retention import (
    Clock,
    Entry,
    Retention,
    RetentionData,
    RetentionPart,
    RetentionRow,
    ReturnCount,
)
from repo.columns.builder import EventRecord, build_chunk
from repo.columns.chunk import Chunk
from repo.columns.filter_evaluation import EventFields, field_conditions, matching_ids
from repo.columns.tied_events import without_untied_ids
from repo.engine.scan import Scanner
from repo.engine.scan_evaluation import TieAdder
from repo.engine.timeline import Timeline, microseconds
from repo.queries.retention import RetentionReduction
from tests.cohort_oracle import Cohort, Event, Rules
from tests.example_counts import examples
from utils.time.calendar import WEEKDAYS
from utils.time.zones import zone

NAMES = {"start": 1, "back": 2, "both": 3}
USERS = ["", "a", "b", "c"]
ENTRY, RETURN = "start,both", "back,both"
MIDDLES = [
    "2025-03-30T01:00:00+00:00",  # Berlin, 23 hours
    "2025-10-26T01:00:00+00:00",  # Berlin, 25 hours
    "2026-04-04T15:00:00+00:00",  # Lord Howe, half an hour more
    "2011-12-30T10:00:00+00:00",  # Apia, a day that never was
    "2025-01-01T00:00:00+00:00",
]
ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]

steps = st.one_of(
    st.integers(-90, 90).map(lambda days: timedelta(days=days)),
    st.integers(-9, 9).map(lambda hours: timedelta(hours=hours)),
    st.integers(-240, 240).map(lambda hours: timedelta(hours=hours)),
    st.sampled_from([timedelta(0), timedelta.resolution, -timedelta.resolution]),
)


@st.composite
def instants(draw: st.DrawFn, middle: datetime) -> datetime:
    return middle + draw(steps) + draw(st.sampled_from([timedelta(0), timedelta.resolution]))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[list[tuple[str, str, datetime]]], dict[str, Any]]:
    """The events of a few chunks, and the parameters and the clock of a question."""
    middle = datetime.fromisoformat(draw(st.sampled_from(MIDDLES)))
    event = st.tuples(st.sampled_from(USERS), st.sampled_from([*NAMES]), instants(middle))
    chunks = draw(st.lists(st.lists(event, max_size=12), min_size=1, max_size=3))
    start = draw(instants(middle))
    clock = draw(st.sampled_from(get_args(Clock)))
    return chunks, {
        "start": start,
        "end": start + draw(st.timedeltas(timedelta.resolution, timedelta(days=20))),
        "tz": draw(st.sampled_from(ZONES)),
        "week_start": draw(st.sampled_from(WEEKDAYS)),
        "interval": draw(st.sampled_from(["day", "week", "month"][: 2 if clock == "24h" else 3])),
        "periods": draw(st.integers(1, 20)),
        "entry": draw(st.sampled_from(get_args(Entry))),
        "count": draw(st.sampled_from(get_args(ReturnCount))),
        "clock": clock,
        "now": draw(st.one_of(instants(middle), st.just(middle + timedelta(days=900)))),
    }


def computed(chunks: Sequence[Sequence[EventRecord]], now: datetime, **more: Any) -> RetentionData:
    """The answer from chunks, which come in this order and have the ids of their ties alone.

    The events of ties of several chunks are read again.
    """
    query = Retention(**more).query
    reduction = RetentionReduction(query, query.range_at(now), now)
    scan, collector = reduction.scan(), reduction.collector()
    ids = {
        condition: matching_ids(condition.test, NAMES)
        for part in scan.all_filters
        for condition in field_conditions(part)
    }
    scanner = Scanner(scan, collector, EventFields(ids), None, None)
    for records in chunks:
        scan_chunk(scanner, without_untied_ids(build_chunk(list(records))))
    data = reduction.data(collector, lambda: None)
    if not collector.unordered_ties.size:
        return data
    ties = set(zip(*(array.tolist() for array in collector.unordered_ties), strict=True))
    events = [each for records in chunks for each in records if (each.time, each.user) in ties]
    scan_chunk(replace(scanner, collector=TieAdder(collector)), build_chunk(events))
    return reduction.data(collector, lambda: None)


def scan_chunk(scanner: Scanner, chunk: Chunk) -> None:
    if len(chunk):
        slices = Timeline(scanner.scan.ranges).slices(int(chunk.time[0]), int(chunk.time[-1]))
        scanner.add_parts(chunk, slices)


def record(number: int, user: str, name: str, at: datetime, properties: str = "{}") -> EventRecord:
    return EventRecord(
        time=microseconds(at),
        user=USERS.index(user),
        name=NAMES[name],
        xid=1,
        event_id=number.to_bytes(16, "big"),
        properties=properties,
    )


def plain(data: RetentionData | RetentionPart | RetentionRow) -> list[Cohort]:
    return [
        Cohort(
            cohort.users,
            [(cell.users, cell.of, cell.partial) if cell else None for cell in cohort.cells],
        )
        for cohort in data.cohorts
    ]


def check(
    chunks: list[list[tuple[str, str, datetime]]], more: dict[str, Any], **names: str
) -> None:
    more = dict(more)
    now = more.pop("now")
    numbered = list(enumerate((event for chunk in chunks for event in chunk), 1))
    records = [record(number, *event) for number, event in numbered]
    # In reverse, so that later events of a chunk have lower ids than those of the next one.
    parts, rest = [], records
    for chunk in chunks:
        parts.append(rest[: len(chunk)])
        rest = rest[len(chunk) :]
    entry, comeback = (set(text.split(",")) for text in (names["entry"], names["comeback"]))
    rules = Rules(now=now, **{**more, "tz": zone(more["tz"])})
    expected = rules.cohorts(
        Event(user, at, number, "*" in entry or name in entry, "*" in comeback or name in comeback)
        for number, (user, name, at) in numbered
    )
    more |= {"from": names["entry"], "to": names["comeback"]}
    assert plain(computed(parts[::-1], now, **more)) == expected


@settings(max_examples=examples(600), deadline=None)
@given(world=worlds())
def test_different_events_to_enter_and_to_return(world: Any) -> None:
    check(*world, entry=ENTRY, comeback=RETURN)


@settings(max_examples=examples(600), deadline=None)
@given(world=worlds())
def test_any_event(world: Any) -> None:
    check(*world, entry="*", comeback="*")


VALUES = {
    "{}": None,
    '{"plan": null}': None,
    '{"plan": "pro"}': "pro",
    '{"plan": ["pro", "free"]}': "pro",
    '{"plan": 5}': "5 as a number",
    '{"plan": "5"}': "5",
}
"""Properties of events, and the value that counts."""


@settings(max_examples=examples(600), deadline=None)
@given(world=worlds(), data=st.data(), limit=st.integers(1, 4))
def test_values_of_entries(world: Any, data: st.DataObject, limit: int) -> None:
    chunks, more = world
    now = more.pop("now")
    rules = Rules(now=now, **{**more, "tz": zone(more["tz"])})
    records, events = list[list[EventRecord]](), list[Event]()
    for chunk in chunks:
        records.append([])
        for user, name, at in chunk:
            properties = data.draw(st.sampled_from([*VALUES]))
            number = len(events) + 1
            records[-1].append(record(number, user, name, at, properties))
            is_entry, is_return = name in ENTRY.split(","), name in RETURN.split(",")
            events.append(Event(user, at, number, is_entry, is_return, VALUES[properties]))
    more |= {"from": ENTRY, "to": RETURN, "by": "plan", "limit": limit}
    answer = computed(records[::-1], now, **more)
    assert plain(answer) == rules.cohorts(events)
    assert plain(answer.missing) == rules.cohorts(events, None)
    shown = [name_of(row.value) for row in answer.rows]
    for value, row in zip(shown, answer.rows, strict=True):
        assert plain(row) == rules.cohorts(events, value)
    others = {*VALUES.values()} - {None, *shown}
    assert plain(answer.other) == rules.cohorts(events, "nothing has this", *others)
    sizes = [row.users for row in answer.rows]
    assert sizes == sorted(sizes, reverse=True)
    others_and_missing = answer.other.users + answer.missing.users
    assert sum(sizes) + others_and_missing == sum(cohort.users for cohort in answer.cohorts)


def name_of(value: object) -> object:
    return value if isinstance(value, str) else "5 as a number"
