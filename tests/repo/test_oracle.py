"""Every answer agrees with plain Python over the same events, on each PostgreSQL there is."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection
from psycopg2.extras import execute_values

from common.questions.active_users import ActiveUsers
from common.questions.answer import Bucket
from common.questions.breakdown import Breakdown
from common.questions.event_counts import EventCounts
from common.questions.funnel import Funnel, Order
from common.questions.lifecycle import Lifecycle, LifecycleInterval
from common.questions.numbers import Numbers
from common.questions.properties import Properties
from common.questions.property_values import PropertyValues
from common.questions.retention import Clock, Entry, Retention, RetentionInterval, ReturnCount
from common.questions.stickiness import Stickiness
from common.questions.top_events import TopEvents
from common.questions.user_events import UserEvents
from common.questions.user_profile import UserProfile
from repo.engine.timeline import microseconds
from repo.events import EventsRepo
from repo.rollups import seal, span_store
from repo.rollups.fold_state import Progress
from repo.rollups.rollup_writer import RollupWriter
from tests import cohort_oracle, funnel_oracle, oracle
from tests.example_counts import examples
from tests.factories import with_cursor
from tests.oracle import Event
from tests.servers import OLDER_POSTGRES, Cluster, older_postgres
from tests.source_comparison import finished, limited_hour_spans
from utils.time.calendar import WEEKDAYS, Interval
from utils.time.slots import HOUR, Span
from utils.time.zones import zone

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/Santiago",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
]
# Where clocks change, days go missing, and where days and years begin.
EDGES = [
    "2025-03-30T01:00:00+00:00",  # Berlin, 23 hours
    "2025-10-26T01:00:00+00:00",  # Berlin, 25 hours
    "2026-09-06T04:00:00+00:00",  # Santiago, a day without midnight
    "2026-04-05T03:00:00+00:00",  # Santiago, 25 hours
    "2025-10-04T15:30:00+00:00",  # Lord Howe, half an hour less
    "2026-04-04T15:00:00+00:00",  # Lord Howe, half an hour more
    "2011-12-30T10:00:00+00:00",  # Apia, a day that never was
    "2025-12-31T18:15:00+00:00",  # Kathmandu, New Year
    "2025-12-31T00:00:00+00:00",
]
NAMES = ["view", "buy", "Öl", "a%b_c\\"]
USERS = ["", "u1", "u2", "u3", "a/b", "ü"]

steps = st.one_of(
    st.sampled_from([timedelta(0), timedelta.resolution, -timedelta.resolution]),
    st.integers(-8 * 24 * 4, 8 * 24 * 4).map(lambda quarter: timedelta(minutes=15 * quarter)),
    st.integers(-(10**12), 10**12).map(lambda micro: timedelta(microseconds=micro)),
)
edges = st.sampled_from(EDGES).map(datetime.fromisoformat)


def events_at(instants: st.SearchStrategy[datetime]) -> st.SearchStrategy[Event]:
    return st.builds(
        Event,
        event_id=st.integers(0, 60).map(lambda n: str(UUID(int=n))),  # few: duplicates happen
        user_id=st.sampled_from(USERS),
        event_name=st.sampled_from(NAMES),
        occurred_at=instants,
    )


def ranges_at(instants: st.SearchStrategy[datetime]) -> st.SearchStrategy[tuple[date, date]]:
    lengths = st.timedeltas(timedelta.resolution, timedelta(days=40))
    days = instants.map(lambda moment: moment.date())
    return st.one_of(
        st.tuples(instants, lengths).map(lambda pair: (pair[0], pair[0] + pair[1])),
        st.tuples(days, st.integers(1, 70)).map(
            lambda pair: (pair[0], pair[0] + timedelta(days=pair[1]))
        ),
    )


@dataclass(frozen=True)
class Folding:
    """How far the rollup worker has come when it is asked."""

    first: int
    """Events that are stored before it starts."""
    second: int
    """Events that are stored before its last steps; the others come after them."""
    steps: int
    batch_size: int
    """Events of one step: few make it sweep."""


foldings = st.builds(
    Folding, st.integers(0, 40), st.integers(0, 40), st.integers(0, 3), st.integers(1, 12)
)


@dataclass(frozen=True)
class World:
    stored: list[Event]
    folding: Folding | None
    """None: there are no rollups."""
    time_range: tuple[date, date]


@st.composite
def worlds(draw: st.DrawFn, *, rolled: bool = True) -> World:
    """Rollups are made around one edge only: sealing what lies between two takes long."""
    folding = draw(st.none() | foldings) if rolled else None
    around = st.just(draw(edges)) if folding else edges
    instants = st.builds(lambda edge, step: edge + step, around, steps)
    stored = draw(st.lists(events_at(instants), max_size=40))
    return World(stored, folding, draw(ranges_at(instants)))


shared = {
    "tz": st.sampled_from(ZONES),
    "event": st.lists(st.sampled_from(NAMES), max_size=2).map(tuple),
    "week_start": st.sampled_from(WEEKDAYS),
}


@pytest.fixture(scope="module", params=["18", "15"] if OLDER_POSTGRES.exists() else ["18"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "15":
        with older_postgres() as endpoints:
            yield Cluster(endpoints.database_url).migrated_database()
    else:
        yield request.getfixturevalue("cluster").migrated_database()


@pytest.fixture(autouse=True, scope="module")
def sealed_up_to_where_it_is_asked() -> Iterator[None]:
    """All events and ranges of a world with rollups lie within 120 days; the years since do not."""
    seal_over = seal.sealable_range

    def over(progress: Progress) -> Span | None:
        span = seal_over(progress)
        return Span(span.start, min(span.end, span.start + 120 * 24 * HOUR)) if span else None

    with limited_hour_spans(10), pytest.MonkeyPatch.context() as patch:
        patch.setattr(span_store, "sealable_range", over)
        yield


def store(owner: connection, world: World) -> None:
    """Put just these events in, and fold what is to be folded; the first of an id counts."""
    with owner.cursor() as cur:
        cur.execute(EMPTY)
    if folding := world.folding:
        writer = RollupWriter(owner, [zone("Europe/Berlin")], folding.batch_size)
        insert(owner, world.stored[: folding.first])
        while writer.step().has_more:  # the numbers for SQL readers are not asked here
            pass
        insert(owner, world.stored[folding.first : folding.second])
        for _ in range(folding.steps):
            writer.step()
        insert(owner, world.stored[max(folding.first, folding.second) :])
    else:
        insert(owner, world.stored)


def insert(owner: connection, stored: list[Event]) -> None:
    rows = [
        (e.event_id, e.user_id, e.event_name, e.occurred_at, f'{{"amount": {amount(e)}}}')
        for e in stored
    ]
    with owner.cursor() as cur:
        execute_values(cur, INSERT, rows)


def amount(event: Event) -> int:
    """The number of an event, from its id."""
    return UUID(event.event_id).int % 7 - 2


EMPTY = """
set session_replication_role = replica;
delete from events;
truncate fold_state, slots, sealed_spans, spans, future_events, month_versions,
         column_state, column_chunks, column_data, column_paths, batch_log;
reset session_replication_role
"""
INSERT = """
insert into events (event_id, user_id, event_name, occurred_at, properties) values %s
on conflict do nothing
"""


@given(
    world=worlds(),
    more=st.fixed_dictionaries({**shared, "interval": st.sampled_from(get_args(Interval))}),
)
@settings(max_examples=examples(150))
@pytest.mark.thorough
def test_event_counts_agree(
    owner: connection,
    repo: EventsRepo,
    world: World,
    more: dict[str, Any],
) -> None:
    store(owner, world)
    stored, time_range = world.stored, world.time_range
    question = EventCounts(start=time_range[0], end=time_range[1], compare="previous", **more)
    answer = finished(repo.get_event_counts(question.query))

    start, end = answer.meta.start, answer.meta.end
    selected = oracle.events_between(stored, start, end, question.event)
    assert (answer.data.events, answer.data.users) == (len(selected), oracle.users(selected))

    before = answer.data.previous
    earlier = oracle.events_between(stored, before.start, before.end, question.event)
    assert (before.events, before.users) == (len(earlier), oracle.users(earlier))

    series = answer.data.series
    edges = [(bucket.start, bucket.end) for bucket in series]
    assert (edges[0][0], edges[-1][1]) == (start, end)
    assert all(left[1] == right[0] for left, right in pairwise(edges))
    how = (more["interval"], question.tz, question.week_start)
    assert by_label(series, how) == oracle.by_label(selected, *how)
    assert sum(bucket.events for bucket in series) == answer.data.events


def by_label(series: list[Bucket], how: tuple[str, str, str]) -> dict[object, tuple[int, int]]:
    """The buckets with events, by what the clocks showed when they began."""
    filled = (bucket for bucket in series if bucket.events)
    return {oracle.label(b.start, *how): (b.events, b.users) for b in filled}


@given(world=worlds(), limit=st.integers(1, 5), more=st.fixed_dictionaries(shared))
@settings(max_examples=examples(100))
@pytest.mark.thorough
def test_top_events_agree(
    owner: connection,
    repo: EventsRepo,
    world: World,
    limit: int,
    more: dict[str, Any],
) -> None:
    store(owner, world)
    stored, time_range = world.stored, world.time_range
    question = TopEvents(start=time_range[0], end=time_range[1], limit=limit, **more)
    answer = finished(repo.get_top_events(question.query))

    selected = oracle.events_between(stored, answer.meta.start, answer.meta.end, question.event)
    top = oracle.top(selected, limit)
    rest = [event for event in selected if event.event_name not in {name for name, _, _ in top}]
    data = answer.data
    assert [(row.event_name, row.events, row.users) for row in data.rows] == top
    assert (data.events, data.users) == (len(selected), oracle.users(selected))
    assert (data.other.events, data.other.users) == (len(rest), oracle.users(rest))
    assert data.other.event_names == len({event.event_name for event in rest})
    shares = [row.share for row in data.rows] + [data.other.share]
    assert sum(shares) == pytest.approx(1 if selected else 0)


@given(world=worlds(), limit=st.integers(1, 5), more=st.fixed_dictionaries(shared))
@settings(max_examples=examples(50))
@pytest.mark.thorough
def test_breakdown_agrees(
    owner: connection,
    repo: EventsRepo,
    world: World,
    limit: int,
    more: dict[str, Any],
) -> None:
    """By the name of the event; properties are in `test_breakdown.py`."""
    store(owner, world)
    stored, time_range = world.stored, world.time_range
    question = Breakdown(
        by=["@event"], start=time_range[0], end=time_range[1], limit=limit, interval="month", **more
    )
    answer = finished(repo.get_breakdown(question.query))

    selected = oracle.events_between(stored, answer.meta.start, answer.meta.end, question.event)
    top = oracle.top(selected, limit)
    rest = [event for event in selected if event.event_name not in {name for name, _, _ in top}]
    data = answer.data
    assert [(*row.values, row.events, row.users) for row in data.rows] == top
    assert (data.events, data.users) == (len(selected), oracle.users(selected))
    assert (data.other.events, data.other.users) == (len(rest), oracle.users(rest))
    assert data.other.rows == len({event.event_name for event in rest})
    assert (data.missing.events, data.missing.users) == (0, 0)
    how = ("month", question.tz, question.week_start)
    for row in data.rows:
        named = [event for event in selected if [event.event_name] == row.values]
        assert by_label(row.series, how) == oracle.by_label(named, *how)
    assert by_label(data.other.series, how) == oracle.by_label(rest, *how)


@given(
    world=worlds(),
    window=st.integers(1, 60),
    more=st.fixed_dictionaries(shared),
)
@settings(max_examples=examples(100))
@pytest.mark.thorough
def test_active_users_agree(
    owner: connection,
    repo: EventsRepo,
    world: World,
    window: int,
    more: dict[str, Any],
) -> None:
    store(owner, world)
    stored, time_range = world.stored, world.time_range
    question = ActiveUsers(start=time_range[0], end=time_range[1], window=window, **more)
    answer = finished(repo.get_active_users(question.query))

    every = oracle.events_between(stored, None, None, question.event)
    start, end = question.query.range_at(answer.meta.computed_at)
    edges = (start, end - timedelta.resolution)
    labels = {oracle.label(instant, "day", question.tz) for instant in edges}
    if start == end:
        labels = {time_range[0]}  # Apia's day that never was, by itself
    dates = [point.date for point in answer.data.series]
    assert (dates[0], dates[-1]) == (min(labels), max(labels))
    assert dates == [dates[0] + timedelta(days=n) for n in range(len(dates))]
    for point in answer.data.series:
        day, tz = point.date, question.tz
        week = day - timedelta(
            days=(day.weekday() - oracle.WEEKDAYS.index(question.week_start)) % 7
        )
        rolling = {
            n: oracle.active(every, tz, day - timedelta(days=n - 1), day)
            for n in (1, 7, 30, window)
        }
        assert (point.dau, point.wau, point.mau) == (rolling[1], rolling[7], rolling[30])
        assert point.active == rolling[window]
        assert point.calendar_week == oracle.active(every, tz, week, day)
        assert point.calendar_month == oracle.active(every, tz, day.replace(day=1), day)
        assert point.stickiness == (point.dau / point.mau if point.mau else None)
        earlier = oracle.active_users(every, tz, date.min, day - timedelta(days=1))
        new = oracle.active_users(every, tz, day, day) - earlier
        assert (point.new, point.existing) == (len(new), point.dau - len(new))


def cohort_events(stored: list[Event], entry: str, comeback: str) -> list[cohort_oracle.Event]:
    """All distinct events; `entry` and `comeback` are event names, or `*` for all."""
    return [
        cohort_oracle.Event(
            event.user_id,
            event.occurred_at,
            UUID(event.event_id).int,
            entry in ("*", event.event_name),
            comeback in ("*", event.event_name),
        )
        for event in oracle.events_between(stored, None, None, ())
    ]


@given(
    world=worlds(),
    selections=st.tuples(*[st.sampled_from(["*", "view", "buy"])] * 2),
    more=st.fixed_dictionaries(
        {
            "tz": shared["tz"],
            "week_start": shared["week_start"],
            "interval": st.sampled_from(get_args(RetentionInterval)),
            "periods": st.integers(1, 9),
            "entry": st.sampled_from(get_args(Entry)),
            "count": st.sampled_from(get_args(ReturnCount)),
            "clock": st.sampled_from(get_args(Clock)),
        }
    ).filter(lambda more: (more["clock"], more["interval"]) != ("24h", "month")),
)
@settings(max_examples=examples(100))
@pytest.mark.thorough
def test_retention_agrees(
    owner: connection,
    repo: EventsRepo,
    world: World,
    selections: tuple[str, str],
    more: dict[str, Any],
) -> None:
    store(owner, world)
    start, end = world.time_range
    names = dict(zip(("from", "to"), selections, strict=True))
    answer = finished(repo.get_retention(Retention(start=start, end=end, **names, **more).query))
    meta: Any = answer.meta
    rules = cohort_oracle.Rules(
        start=meta.start, end=meta.end, now=meta.computed_at, **{**more, "tz": zone(more["tz"])}
    )
    if meta.start < meta.end:
        expected = rules.cohorts(cohort_events(world.stored, *selections))
        assert [
            cohort_oracle.Cohort(
                cohort.users,
                [(cell.users, cell.of, cell.partial) if cell else None for cell in cohort.cells],
            )
            for cohort in answer.data.cohorts
        ] == expected


@given(
    world=worlds(),
    more=st.fixed_dictionaries(
        {
            "tz": shared["tz"],
            "week_start": shared["week_start"],
            "interval": st.sampled_from(get_args(LifecycleInterval)),
        }
    ),
)
@settings(max_examples=examples(100))
@pytest.mark.thorough
def test_lifecycle_agrees(
    owner: connection, repo: EventsRepo, world: World, more: dict[str, Any]
) -> None:
    store(owner, world)
    start, end = world.time_range
    answer = finished(repo.get_lifecycle(Lifecycle(start=start, end=end, **more).query))
    meta: Any = answer.meta
    rules = cohort_oracle.Rules(
        start=meta.start, end=meta.end, now=meta.computed_at, **{**more, "tz": zone(more["tz"])}
    )
    series = answer.data.series
    if meta.start < meta.end:
        assert [
            (period.new, period.returning, period.resurrected, period.dormant) for period in series
        ] == rules.lifecycle(cohort_events(world.stored, "*", "*"))
    for previous, period in pairwise(series):
        assert period.active == period.new + period.returning + period.resurrected
        assert previous.active == period.returning + period.dormant


@given(
    world=worlds(),
    more=st.fixed_dictionaries(
        {**shared, "interval": st.sampled_from(get_args(Interval)), "min": st.integers(1, 3)}
    ),
)
@settings(max_examples=examples(100))
@pytest.mark.thorough
def test_stickiness_agrees(
    owner: connection, repo: EventsRepo, world: World, more: dict[str, Any]
) -> None:
    store(owner, world)
    start, end = world.time_range
    question = Stickiness(start=start, end=end, **more)
    answer = finished(repo.get_stickiness(question.query))
    meta, data = answer.meta, answer.data
    selected = oracle.events_between(world.stored, meta.start, meta.end, question.event)
    how = (more["interval"], question.tz, question.week_start)
    of_periods = Counter(
        (event.user_id, oracle.label(event.occurred_at, *how)) for event in selected
    )
    periods = Counter(
        user for (user, _), count in of_periods.items() if user and count >= question.min
    )
    numbers = Counter(periods.values())
    assert {row["in"]: row["users"] for row in data.rows if row["users"]} == numbers
    assert sum(row["users"] for row in data.rows) == data.users == len(periods)
    assert all(
        row["at_least"] == sum(users for number, users in numbers.items() if number >= row["in"])
        for row in data.rows
    )


@given(
    world=worlds(),
    more=st.fixed_dictionaries({**shared, "interval": st.sampled_from(get_args(Interval))}),
)
@settings(max_examples=examples(100))
@pytest.mark.thorough
def test_numbers_agree(
    owner: connection, repo: EventsRepo, world: World, more: dict[str, Any]
) -> None:
    store(owner, world)
    start, end = world.time_range
    question = Numbers(start=start, end=end, of="amount", stat="sum,p50", **more)
    answer = finished(repo.get_numbers(question.query))
    selected = oracle.events_between(
        world.stored, answer.meta.start, answer.meta.end, question.event
    )
    assert numbers_of(answer.data) == counted(selected)
    filled = [each for each in answer.data["series"] if each["count"]]
    how = (more["interval"], question.tz, question.week_start)
    labels: dict[Any, list[Event]] = {}
    for event in selected:
        labels.setdefault(oracle.label(event.occurred_at, *how), []).append(event)
    assert {oracle.label(each["start"], *how): numbers_of(each) for each in filled} == {
        label: counted(events) for label, events in labels.items()
    }


def numbers_of(statistics: Any) -> tuple[int, int, bytes, float | None]:
    total = bytes(statistics["sum"])
    return statistics["count"], statistics["users"], total, statistics["p50"]


def counted(events: list[Event]) -> tuple[int, int, bytes, float | None]:
    amounts = list(map(amount, events))
    median_or_none = float(median(amounts)) if amounts else None
    return len(amounts), oracle.users(events), f"{sum(amounts)}".encode(), median_or_none


FUNNEL_STEPS = {"view,buy": {"view", "buy"}, "buy,Öl": {"buy", "Öl"}, "*": set(NAMES)}


@given(
    world=worlds(),
    within=st.integers(1, 40 * 24 * 3600).map(lambda seconds: timedelta(seconds=seconds)),
    order=st.sampled_from(get_args(Order)),
    more=st.fixed_dictionaries(shared),
)
@settings(max_examples=examples(100))
@pytest.mark.thorough
def test_funnels_agree(
    owner: connection,
    repo: EventsRepo,
    world: World,
    within: timedelta,
    order: Order,
    more: dict[str, Any],
) -> None:
    store(owner, world)
    start, end = world.time_range
    question = Funnel(
        start=start, end=end, step=list(FUNNEL_STEPS), within=within, order=order, **more
    )
    answer = finished(repo.get_funnel(question.query))
    events = oracle.events_between(
        world.stored, answer.meta.start, answer.meta.computed_at, question.event
    )
    assert answer.meta.end
    rules = funnel_oracle.Funnel(
        steps=len(FUNNEL_STEPS),
        within=within // timedelta.resolution,
        entry_end=microseconds(answer.meta.end),
        now=microseconds(answer.meta.computed_at),
        order=order,
    )
    expected = funnel_oracle.outcomes([step_event(each) for each in events if each.user_id], rules)
    data = answer.data
    assert [step.users for step in data.steps] == [
        sum(each.furthest > step for each in expected) for step in range(rules.steps)
    ]
    assert data.open == sum(each.is_open for each in expected)
    assert data.closed.entered == sum(each.first_entry < rules.open_from for each in expected)
    took = [each.times[-1] - each.times[0] for each in expected if each.furthest == rules.steps]
    assert data.seconds.avg == (pytest.approx(sum(took) / len(took) / 1e6) if took else None)


def step_event(event: Event) -> funnel_oracle.StepEvent:
    names = enumerate(FUNNEL_STEPS.values())
    return funnel_oracle.StepEvent(
        event_id=UUID(event.event_id).int,
        user=USERS.index(event.user_id),
        time=microseconds(event.occurred_at),
        steps=frozenset(step for step, named in names if event.event_name in named),
    )


@given(
    world=worlds(rolled=False),
    user=st.sampled_from(USERS[1:]),
    whole=st.booleans(),
    limit=st.integers(1, 7),
    more=st.fixed_dictionaries(shared),
)
@settings(max_examples=examples(100))
@pytest.mark.thorough
def test_user_events_agree(
    owner: connection,
    repo: EventsRepo,
    world: World,
    user: str,
    whole: bool,
    limit: int,
    more: dict[str, Any],
) -> None:
    store(owner, world)
    stored, time_range = world.stored, world.time_range
    edges = {} if whole else {"start": time_range[0], "end": time_range[1]}
    question = UserEvents(user_id=user, limit=limit, **edges, **more)
    pages = [repo.get_user_events(question.query)]
    meta = pages[0].meta
    selected = oracle.events_between(stored, meta.start, meta.end, question.event)
    selected = [event for event in selected if event.user_id == user]
    newest_first = sorted(selected, key=lambda e: (e.occurred_at, UUID(e.event_id)), reverse=True)
    expected = [event.event_id for event in newest_first]

    while cursor := pages[-1].meta.next_cursor:
        pages.append(repo.get_user_events(with_cursor(question, cursor)))
    assert [event.event_id for page in pages for event in page.data] == expected

    back = [pages[-1]]
    while cursor := back[-1].meta.previous_cursor:
        back.append(repo.get_user_events(with_cursor(question, cursor)))
    assert [event.event_id for page in reversed(back) for event in page.data] == expected


@given(
    world=worlds(rolled=False),
    user=st.sampled_from(USERS[1:]),
    whole=st.booleans(),
    more=st.fixed_dictionaries(shared),
)
@settings(max_examples=examples(100))
@pytest.mark.thorough
def test_user_profile_agrees(
    owner: connection,
    repo: EventsRepo,
    world: World,
    user: str,
    whole: bool,
    more: dict[str, Any],
) -> None:
    store(owner, world)
    edges = {} if whole else {"start": world.time_range[0], "end": world.time_range[1]}
    question = UserProfile(user_id=user, **edges, **more)
    answer = repo.get_user_profile(question.query)
    meta, data = answer.meta, answer.data
    selected = oracle.events_between(world.stored, meta.start, meta.end, question.event)
    selected = [event for event in selected if event.user_id == user]

    names = Counter(event.event_name for event in selected)
    most_frequent_first = sorted(names.items(), key=lambda item: (-item[1], item[0].encode()))
    assert [(each.event_name, each.events) for each in data.event_names] == most_frequent_first
    assert data.events == len(selected)
    assert data.active_days == len(
        {oracle.label(e.occurred_at, "day", more["tz"]) for e in selected}
    )
    instants = [event.occurred_at for event in selected]
    # In Python, a time that a zone has twice equals no time of another zone.
    seen = [each and each.astimezone(UTC) for each in (data.first_seen, data.last_seen)]
    assert seen == [min(instants, default=None), max(instants, default=None)]
    newest = max(selected, key=lambda e: (e.occurred_at, UUID(e.event_id)), default=None)
    latest = [(e.name, bytes(e.value), e.set_at.astimezone(UTC)) for e in data.properties]
    assert latest == (
        [("amount", f"{amount(newest)}".encode(), newest.occurred_at)] if newest else []
    )


@given(world=worlds(), limit=st.integers(1, 5))
@settings(max_examples=examples(30))
@pytest.mark.thorough
def test_the_catalogue_agrees(
    owner: connection, repo: EventsRepo, world: World, limit: int
) -> None:
    """`properties` and `property_values`; `test_catalogue.py` has properties of all types."""
    store(owner, world)
    events = oracle.events_between(world.stored, None, None, ())
    instants = [event.occurred_at for event in events]
    answer = finished(repo.get_properties(Properties().query))
    assert [(each.property, each.events, each.users) for each in answer.data.rows] == (
        [("amount", len(events), oracle.users(events))] if events else []
    )
    for row in answer.data.rows:
        assert (row.first_seen, row.last_seen) == (min(instants), max(instants))
        assert row.types == {"number": len(events)}
    numbers = Counter(map(amount, events))
    top = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))[:limit]
    values = finished(
        repo.get_property_values(PropertyValues(property="amount", limit=limit).query)
    )
    assert [(int(bytes(each.value)), each.events) for each in values.data.rows] == top
    assert values.data.distinct == len(numbers)
