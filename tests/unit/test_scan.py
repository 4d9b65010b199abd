"""Scans select events by range, name, condition and user, and collectors receive them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from repo.columns.filter_evaluation import EventFields, IdSet
from repo.engine.cardinality import CardinalityCache
from repo.engine.count_collectors import CountCollector
from repo.engine.scan import Collector, MatchingEvents, Scan, Scanner
from repo.engine.timeline import Timeline
from tests.chunks import chunk_of, parsed
from tests.unit.test_timeline import ranges
from tests.where_oracle import Event
from tests.where_strategies import EVENT_NAMES, USERS

EVENTS = [
    Event("u1", "view", {"a": "x"}),
    Event(None, "view", {"a": "x"}),
    Event("u1", "5", {"a": "x"}),
    Event("ü", "view", {"a": 7}),
    Event("U1", "view", {"a": "x"}),
]
"""One event in each microsecond, from 0."""


def scanner_of(
    where: str,
    edges: Sequence[int],
    collector: Collector,
    *,
    names: IdSet | None = None,
    erased: IdSet | None = None,
) -> Scanner:
    scan = Scan(question="event_counts", ranges=ranges(*edges), where=parsed(where))
    return Scanner(scan, collector, EventFields(), names, erased)


def counted(
    edges: Sequence[int], *, names: IdSet | None = None, erased: IdSet | None = None
) -> list[tuple[int, int]]:
    """The events and users of adjacent ranges."""
    collector = CountCollector(len(edges) - 1)
    scanner = scanner_of("a:^x", edges, collector, names=names, erased=erased)
    scanner.add_parts(chunk_of(EVENTS), Timeline(ranges(*edges)).slices(0, 4))
    return [(events, users) for events, users in CardinalityCache().counts(collector.partials)]


def test_other_names_and_erased_users_do_not_count() -> None:
    assert counted([0, 5], names=IdSet([EVENT_NAMES.index("5") + 1])) == [(1, 1)]
    assert counted([0, 5], erased=IdSet([USERS.index("u1") + 1])) == [(2, 1)]


def test_a_whole_chunk_needs_no_times() -> None:
    chunk = chunk_of(EVENTS)
    chunk.time.resize(0, refcheck=False)
    collector = CountCollector(2)
    scanner_of("a:*", [0, 5], collector).add_whole(chunk, 1)
    assert [part.events for part in collector.partials] == [0, 5]


def test_skipped_values_are_those_of_the_events_that_are_selected_otherwise() -> None:
    scanner = scanner_of("a:^x", [0, 5], CountCollector(1))
    scanner.add_parts(chunk_of(EVENTS), Timeline(ranges(0, 5)).slices(0, 4))
    assert sum(scanner.skipped.values()) == 1
    scanner.add_parts(chunk_of(EVENTS), Timeline(ranges(0, 3)).slices(0, 4))
    assert sum(scanner.skipped.values()) == 1


@dataclass
class RowCollector:
    """Keeps the rows that it receives, and where ranges begin and end in them."""

    rows: list[list[int]] = field(default_factory=list)
    bounds: list[list[int]] = field(default_factory=list)

    def add(self, events: MatchingEvents) -> None:
        self.rows.append(events.rows.tolist())
        self.bounds.append(events.bounds)


def test_collectors_receive_the_rows_that_match_and_their_ranges() -> None:
    collector = RowCollector()
    scanner = scanner_of("a:^x", [1, 3, 5], collector)
    scanner.add_parts(chunk_of(EVENTS), Timeline(ranges(1, 3, 5)).slices(0, 4))
    assert collector == RowCollector([[1, 2, 4]], [[0, 2, 3]])
