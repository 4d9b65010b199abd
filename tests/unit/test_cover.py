"""Which rows answer a range: each moment of it is counted just once, and by the coarsest rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo.engine.plan import Cover, Kind, cover, cover_ranges
from utils.time.calendar import Range, day_start
from utils.time.slots import (
    HOUR,
    SLOT,
    Span,
    days_in,
    hours_in,
    month_number,
    months_in,
    slot_of,
    slot_start,
)
from utils.time.zones import zone, zone_names

UTC_ZONE = zone("UTC")
TICK = timedelta.resolution
ODD_ZONES = ["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"]

zones = (st.sampled_from(ODD_ZONES) | st.sampled_from(sorted(zone_names()))).map(zone)
moments = st.datetimes(datetime(2000, 2, 1), datetime(2090, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
# Exactly at the edges of slots, beside them, and anywhere.
offsets = st.one_of(
    st.builds(
        lambda slots, ticks: slots * SLOT + ticks * TICK,
        st.integers(0, 60 * 96),
        st.sampled_from([-1, 0, 0, 0, 1]),
    ),
    st.timedeltas(timedelta(0), timedelta(days=60)),
)


def kinds_of(tz: ZoneInfo) -> list[Kind]:
    return [
        months_in,
        lambda gap: days_in(gap, tz),
        lambda gap: days_in(gap, UTC_ZONE),
        hours_in,
    ]


@dataclass(frozen=True)
class Parts:
    """The parts of the cover of one range."""

    edges: list[Range]
    middle: Range | None
    spans: list[Span]
    gaps: list[Span]


def parts_of(covered: Cover, index: int = 0) -> Parts:
    middles = [middle for at, middle in covered.middles if at == index]
    return Parts(
        [edge for at, edge in covered.edges if at == index],
        middles[0] if middles else None,
        [span for at, span in covered.spans if at == index],
        [gap for at, gap in covered.gaps if at == index],
    )


@dataclass(frozen=True)
class Case:
    time_range: Range
    folded: Range
    kinds: Sequence[Kind]
    sealed: frozenset[Span]

    def parts(self) -> "Parts":
        return parts_of(
            cover_ranges([self.time_range], self.folded, self.kinds, self.sealed.__contains__)
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    first, tz = draw(moments), draw(zones)
    edges = [first + draw(offsets) for _ in range(4)]
    time_range, folded = Range(*sorted(edges[:2])), Range(*sorted(edges[2:]))
    folded = Range(slot_start(slot_of(folded.start)), folded.end)
    over = Span(slot_of(folded.start) - 40 * 96, slot_of(folded.end))
    possible = [span for kind in kinds_of(tz) for span in kind(over)]
    salt, part = draw(st.integers(0, 2**16)), draw(st.sampled_from([1, 2, 5, 1000]))
    sealed = frozenset(span for span in possible if hash((span, salt)) % part == 0)
    return Case(time_range, folded, kinds_of(tz), sealed)


def ranges(spans: Iterable[Span]) -> list[Range]:
    return [Range(slot_start(span.start), slot_start(span.end)) for span in spans]


@given(cases())
def test_edges_and_middle_make_up_the_range(case: Case) -> None:
    result = case.parts()
    parts = sorted([*result.edges, *([result.middle] if result.middle else [])])
    assert all(part.start < part.end for part in parts)
    assert all(before.end == right.start for before, right in pairwise(parts))
    covered_range = Range(parts[0].start, parts[-1].end) if parts else None
    assert covered_range == (
        case.time_range if case.time_range.start < case.time_range.end else None
    )


@given(cases())
def test_spans_and_gaps_are_what_is_folded_of_the_middle(case: Case) -> None:
    """And no event of slots that they read is outside of the range."""
    result = case.parts()
    parts = sorted([*result.spans, *result.gaps])
    assert all(part.start < part.end for part in parts)
    assert all(before.end == right.start for before, right in pairwise(parts))
    if not result.middle:
        assert not parts
        return
    bounds = result.middle.start, min(result.middle.end, case.folded.end)
    known = max(bounds[0], case.folded.start), bounds[1]
    span_ranges = ranges(parts)
    if known[0] < known[1]:
        assert span_ranges
        assert span_ranges[0].start <= known[0]
        assert span_ranges[-1].end >= known[1]
    if span_ranges:
        assert span_ranges[0].start >= result.middle.start
        # Slots hold what occurred before folded.end: what is read beyond is not there.
        assert min(span_ranges[-1].end, case.folded.end) <= result.middle.end


@given(cases())
def test_only_sealed_spans_are_taken_and_the_coarsest_that_fit(case: Case) -> None:
    result = case.parts()
    assert set(result.spans) <= case.sealed
    parts = sorted([*result.spans, *result.gaps])
    sealed = Span(parts[0].start, parts[-1].end) if parts else Span(0, 0)
    chosen: list[Span] = []
    for kind in case.kinds:
        fit = [
            s for s in kind(sealed) if s in case.sealed and not any(overlap(s, t) for t in chosen)
        ]
        assert set(fit) <= set(result.spans)
        chosen += fit
    assert sorted(chosen) == sorted(result.spans)


def overlap(first: Span, second: Span) -> bool:
    return first.start < second.end and second.start < first.end


@given(cases(), st.lists(moments, min_size=1, max_size=5))
def test_several_ranges_are_covered_as_each_by_itself(case: Case, cuts: list[datetime]) -> None:
    edges = sorted({*case.time_range, *cuts})
    whole = [Range(*pair) for pair in pairwise(edges)]
    covered = cover_ranges(whole, case.folded, case.kinds, case.sealed.__contains__)
    for index, part in enumerate(whole):
        alone = cover_ranges([part], case.folded, case.kinds, case.sealed.__contains__)
        assert parts_of(covered, index) == parts_of(alone)


def test_a_year_takes_its_months() -> None:
    year = Range(datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
    result = parts_of(cover_ranges([year], year, kinds_of(UTC_ZONE), lambda _: True))
    assert len(result.spans) == 12
    assert not result.gaps
    assert not result.edges


def test_a_coarse_span_wins_over_the_finer_ones_in_it() -> None:
    (day,) = days_in(Span(0, 96), UTC_ZONE)
    hours = set(hours_in(day))
    spans, gaps = cover(Span(0, 100), kinds_of(UTC_ZONE), ({day} | hours).__contains__)
    assert (spans, gaps) == ((day,), (Span(96, 100),))


@given(moments)
def test_a_slot_holds_its_moments(moment: datetime) -> None:
    slot = slot_of(moment)
    assert slot_start(slot) <= moment < slot_start(slot + 1)
    assert slot_of(slot_start(slot)) == slot
    assert slot_of(slot_start(slot) - TICK) == slot - 1


span_strategy = st.builds(
    lambda start, length: Span(slot_of(start), slot_of(start) + length),
    moments,
    st.integers(0, 100 * 96),
)


@given(span_strategy)
def test_hours_in_a_span_are_all_of_its_whole_hours(whole: Span) -> None:
    expected = [s for s in range(whole.start, whole.end) if s % HOUR == 0 and s + HOUR <= whole.end]
    assert list(hours_in(whole)) == [Span(start, start + HOUR) for start in expected]


@given(span_strategy, zones)
def test_days_in_a_span_are_all_of_its_whole_days(whole: Span, tz: ZoneInfo) -> None:
    start, end = slot_start(whole.start), slot_start(whole.end)
    first = start.date() - timedelta(days=2)
    days = [first + timedelta(days=n) for n in range((end - start).days + 5)]
    bounds = [(day_start(day, tz), day_start(day + timedelta(days=1), tz)) for day in days]
    expected = [
        Span(slot_of(begins), slot_of(ends))
        for begins, ends in bounds
        if start <= begins < ends <= end and is_slot(begins) and is_slot(ends)
    ]
    assert list(days_in(whole, tz)) == expected


def is_slot(instant: datetime) -> bool:
    return slot_start(slot_of(instant)) == instant


@given(span_strategy)
def test_months_in_a_span_are_all_of_its_whole_months(whole: Span) -> None:
    start, end = slot_start(whole.start), slot_start(whole.end)
    firsts = [
        datetime(year, month, 1, tzinfo=UTC)
        for year in range(start.year, end.year + 2)
        for month in range(1, 13)
    ]
    expected = [
        Span(slot_of(before), slot_of(right))
        for before, right in pairwise(firsts)
        if start <= before and right <= end
    ]
    assert list(months_in(whole)) == expected


@pytest.mark.parametrize(("month", "number"), [("0001-01", 12), ("2025-12", 2025 * 12 + 11)])
def test_months_are_counted_from_year_0(month: str, number: int) -> None:
    first = date.fromisoformat(f"{month}-01")
    assert month_number(datetime(first.year, first.month, 28, tzinfo=UTC)) == number
