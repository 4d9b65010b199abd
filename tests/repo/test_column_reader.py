"""Event counts with filters agree with plain Python, from chunks and from their tail."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection
from psycopg2.extras import execute_values

from common.errors import ColumnsBuilding, EventsDropped, InvalidParameter
from common.questions.answer import Answer, Reading, is_absent
from common.questions.event_counts import EventCounts, EventCountsData
from common.remarks import Note, Unknown
from config.database_errors import DeadlineExceeded
from repo.columns import cache, chunk_writer, codec, column_tail
from repo.columns.cache import COLUMN_CACHE, ColumnFolder
from repo.columns.consumer import Consumer
from repo.columns.unwritten_events import Limits
from repo.events import EventsRepo
from repo.lifecycle.erasure import EraseRepo
from repo.rollups.rollup_writer import RollupWriter
from tests import where_oracle
from tests.column_writer import write_columns
from tests.example_counts import examples
from tests.servers import Cluster
from tests.source_comparison import finished
from tests.where_strategies import EVENT_NAMES, USERS, cases
from utils.time.zones import zone

ZONES = ["UTC", "Europe/Berlin", "America/Santiago", "Asia/Kathmandu", "Australia/Lord_Howe"]
EMPTY = """
set session_replication_role = replica;
delete from events;
truncate fold_state, slots, sealed_spans, spans, future_events, month_versions, users, event_names,
         batch_log, column_state, column_chunks, column_data, column_paths, columns_erasures;
reset session_replication_role
"""
INSERT = "insert into events (event_id, user_id, event_name, occurred_at, properties) values %s"
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def database_url(cluster: Cluster) -> str:
    return cluster.migrated_database()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path) -> Iterator[None]:
    """Each test begins with an empty cache, and leaves one."""
    COLUMN_CACHE.resize(2**26)
    COLUMN_CACHE.share(None)
    yield
    COLUMN_CACHE.resize(2**26)
    COLUMN_CACHE.share(None)


class Stored(NamedTuple):
    """An event, and when it occurred."""

    occurred_at: datetime
    event: where_oracle.Event

    @property
    def row(self) -> tuple[Any, ...]:
        event = self.event
        text = as_json(event.properties)
        return (str(uuid4()), event.user_id or "", event.event_name, self.occurred_at, text)


def as_json(value: Any) -> str:
    """JSON with the exact numbers."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{as_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(as_json, value))}]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


@dataclass(frozen=True)
class Life:
    """What happens to events until the question is asked."""

    cuts: tuple[int, int, int]
    """How many events are written to columns at first, and then; and how many are folded only."""
    sizes: tuple[int, int]
    """The events of a chunk."""
    steps: int | None
    """The steps of the rollup worker that write columns, the latest events first; None: all events
    are written at once, in chunks of random events."""
    is_packed: bool
    has_folder: bool
    max_bytes: int
    """The bound of the cache."""
    pending_bytes: int
    """How much may wait to be decoded."""
    erased: frozenset[str]


few = st.integers(0, 20)
lives = st.builds(
    Life,
    cuts=st.tuples(few, few, few),
    sizes=st.tuples(st.integers(1, 7) | st.just(131_072), st.integers(1, 7)),
    steps=st.none() | st.integers(0, 5),
    is_packed=st.booleans(),
    has_folder=st.booleans(),
    max_bytes=st.sampled_from([0, 10_000, 2**26]),
    pending_bytes=st.sampled_from([0, 2**26]),
    erased=st.frozensets(st.sampled_from(USERS), max_size=2),
)
# Around now: the range ends in the future, where events may be as well.
offsets = st.one_of(
    st.integers(-20 * 24 * 4, 2 * 24 * 4).map(lambda quarter: timedelta(minutes=15 * quarter)),
    st.integers(-20 * 86_400 * 10**6, 10**6).map(lambda micro: timedelta(microseconds=micro)),
)


@dataclass(frozen=True)
class World:
    stored: list[Stored]
    wheres: list[str]
    life: Life
    time_range: tuple[datetime, datetime]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    several = draw(st.lists(cases(), min_size=3, max_size=6))
    base = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    stored = [Stored(base + draw(offsets), event) for case in several for event in case.events]
    start = base + draw(offsets)
    length = draw(st.timedeltas(timedelta.resolution, 25 * DAY))
    wheres = ["-none:*", "@user:*", *(case.where for case in several)]
    return World(stored, wheres, draw(lives), (start, start + length))


def store(owner: connection, world: World) -> None:
    """Store just these events, and write them to columns as far as their life says."""
    with owner.cursor() as cur:
        cur.execute(EMPTY)
    writer, rows = RollupWriter(owner, [zone("UTC")]), [each.row for each in world.stored]
    for count, size in zip(world.life.cuts, (*world.life.sizes, None), strict=True):
        insert(owner, rows[:count])
        del rows[:count]
        while writer.step().has_more:
            pass
        if size and world.life.steps is None:
            write_columns(owner, size)
        elif size:
            take_steps(owner, size, world.life.steps or 0)
    insert(owner, rows)
    for user in world.life.erased:
        erase(owner, user)


def take_steps(owner: connection, size: int, steps: int) -> None:
    """Write columns as the rollup worker does; a backfill writes `size` events in a step."""
    consumer = Consumer(owner, 2_000, limits=Limits(size), max_new_events=size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_writer, "MAX_CHUNK_EVENTS", size)
        for _ in range(steps):
            consumer.step(is_lazy=False)


def insert(owner: connection, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        with owner.cursor() as cur:
            execute_values(cur, INSERT, rows)


def erase(owner: connection, user: str) -> None:
    """Erase a user whose events stay in chunks for now."""
    with owner.cursor() as cur:
        cur.execute("select ordinal from users where user_id = %s", (user,))
        ordinals = cur.fetchall()
        EraseRepo(owner).erase(user)
        for ordinal in ordinals:
            cur.execute(
                "insert into columns_erasures (ordinal, erasure) values (%s, 1) "
                "on conflict do nothing",
                ordinal,
            )


def selected(world: World, start: datetime, end: datetime, names: Sequence[str]) -> list[Any]:
    """The events that a question counts, by plain Python."""
    return [
        event
        for occurred_at, event in world.stored
        if start <= occurred_at < end
        and (not names or event.event_name in names)
        and event.user_id not in world.life.erased
    ]


def counts(events: list[Any], where: str) -> tuple[int, int]:
    matching = [event for event in events if where_oracle.matches(where, event)]
    return len(matching), len({event.user_id for event in matching} - {None})


@given(
    world=worlds(),
    names=st.lists(st.sampled_from(EVENT_NAMES), max_size=2).map(tuple),
    tz=st.sampled_from(ZONES),
    interval=st.sampled_from([None, "hour", "day", "week", "month"]),
)
@settings(max_examples=examples(60))
@pytest.mark.thorough
def test_filtered_counts_agree(
    owner: connection,
    repo: EventsRepo,
    tmp_path_factory: pytest.TempPathFactory,
    world: World,
    names: tuple[str, ...],
    tz: str,
    interval: Any,
) -> None:
    folder = tmp_path_factory.mktemp("columns") if world.life.has_folder else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "PACKED_EVENTS", 4_096 if world.life.is_packed else 0)
        store(owner, world)
    start, end = world.time_range
    shared = {"start": start, "end": end, "tz": tz, "interval": interval, "compare": "previous"}
    max_bytes = world.life.max_bytes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_MAX_PENDING_BYTES", world.life.pending_bytes)
        patch.setattr(cache, "_READ_CHUNKS", 2)
        for _ in range(2):  # the second time from the files
            COLUMN_CACHE.resize(max_bytes)
            COLUMN_CACHE.share(ColumnFolder(folder, max_bytes) if folder else None)
            for where in world.wheres:
                for event in {names, ()}:
                    question = EventCounts(event=event, where=[where], **shared)
                    answer = finished(repo.get_event_counts(question.query))
                    check(world, event, where, answer)


def check(world: World, names: Sequence[str], where: str, answer: Answer[EventCountsData]) -> None:
    """Compare an answer with plain Python, up to the time of the answer."""
    data, meta = answer.data, answer.meta
    assert meta.source == "columns"
    until = min(world.time_range[1], meta.computed_at)
    events = selected(world, world.time_range[0], until, names)
    assert (data.events, data.users) == counts(events, where), world.life
    before = selected(world, data.previous.start, data.previous.end, names)
    assert (data.previous.events, data.previous.users) == counts(before, where)
    assert notes(answer) == where_oracle.skipped(where, [*events, *before])
    if not is_absent(data.series):
        for bucket in data.series:
            part = selected(world, bucket.start, min(bucket.end, until), names)
            assert (bucket.events, bucket.users) == counts(part, where)


def notes(answer: Answer[Any]) -> dict[Any, int]:
    """The notes of an answer, in the form of `where_oracle.skipped`."""
    if is_absent(answer.meta.notes):
        return {}
    return {
        (tuple(where_oracle._path(note.property)), note.used, kind): count
        for note in answer.meta.notes
        if isinstance(note, Note)
        for kind, count in note.skipped.items()
    }


DAY_0 = datetime(2025, 3, 1, tzinfo=UTC)
SHARED: dict[str, Any] = {"start": DAY_0, "end": DAY_0 + 40 * DAY}


@pytest.fixture
def folded(owner: connection) -> RollupWriter:
    """A database without events, and its writer."""
    with owner.cursor() as cur:
        cur.execute(EMPTY)
    return RollupWriter(owner, [zone("UTC")])


def put(owner: connection, count: int, properties: str = "{}", user: str = "u1") -> None:
    """Store events of one user, an hour after each other."""
    rows = [
        (str(uuid4()), user, "view", DAY_0 + timedelta(hours=n), properties) for n in range(count)
    ]
    insert(owner, rows)


def catch_up(writer: RollupWriter) -> None:
    while writer.step().has_more:
        pass


def ask(repo: EventsRepo, where: str, **more: Any) -> Answer[EventCountsData]:
    return finished(repo.get_event_counts(EventCounts(where=[where], **{**SHARED, **more}).query))


def test_ordinals_above_two_million_count(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    for user in ("u1", "u2", "u3"):
        put(owner, 5, user=user)
    catch_up(folded)
    with owner.cursor() as cur:
        cur.execute("update users set ordinal = ordinal + 3000000")
    write_columns(owner, 4)
    put(owner, 2, user="u4")  # without an ordinal
    data = ask(repo, "-a:*", interval="day").data
    assert (data.events, data.users) == (17, 4)
    assert [(bucket.events, bucket.users) for bucket in data.series[:2]] == [(17, 4), (0, 0)]


def test_names_that_no_event_has_are_in_the_meta(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    put(owner, 1, '{"plan": "pro"}')
    catch_up(folded)
    write_columns(owner)
    put(owner, 1, '{"new": 1}')
    meta = ask(repo, "(@event:view,old plan:*) or a.b:1 new:1 @event:~x", event=["view", "no"]).meta
    assert meta.unknown == Unknown(["no", "old"], ["a.b"])
    assert is_absent(ask(repo, "plan:x or new:x @event:view @user:nobody").meta.unknown)


def test_a_long_tail_is_refused_with_the_progress(
    owner: connection, repo: EventsRepo, folded: RollupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(column_tail, "MAX_EVENTS", 10)
    put(owner, 10)
    catch_up(folded)
    assert ask(repo, "-a:*").data.events == 10
    put(owner, 1)
    with pytest.raises(ColumnsBuilding, match="0 of about") as refused:
        ask(repo, "-a:*")
    assert refused.value.extra_members == {"progress": "0.00"}
    assert refused.value.headers == {"Retry-After": "1"}
    assert ask(repo, "-a:*", start=DAY_0 + timedelta(hours=5)).data.events == 5
    explained = repo.get_plan(EventCounts(where=["-a:*"], **SHARED).query).data
    assert (explained.source, explained.tail, explained.chunks) == ("columns", 11, 0)


def test_a_backfill_that_has_not_reached_the_range_is_refused(
    owner: connection, repo: EventsRepo, folded: RollupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(owner, 30)
    catch_up(folded)
    take_steps(owner, 4, 3)
    monkeypatch.setattr(column_tail, "MAX_EVENTS", 10)
    with pytest.raises(ColumnsBuilding, match=r"[1-9] of about") as refused:
        ask(repo, "-a:*")
    assert 0 < float(refused.value.extra_members["progress"]) <= 1
    assert ask(repo, "-a:*", start=DAY_0 + timedelta(hours=20)).data.events == 10


def test_a_plan_shows_what_would_be_read(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    put(owner, 10, '{"plan": "pro"}')
    catch_up(folded)
    write_columns(owner, 4)
    put(owner, 3)
    query = EventCounts(where=["plan:pro"], **SHARED).query
    plan = repo.get_plan(query).data
    assert (plan.chunks, plan.column_rows, plan.tail, plan.allowed_events) == (3, 10, 3, 0)
    assert 500 < plan.column_bytes < 5_000
    assert finished(repo.get_event_counts(query)).data.events == 10
    assert repo.get_plan(query).data.column_bytes == 0


def test_a_property_that_was_left_out_is_refused(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    put(owner, 10, '{"a": 1, "b": 1, "c": 1}')
    catch_up(folded)
    write_columns(owner, limit=2)
    assert ask(repo, "a:1").data.events == 10
    with pytest.raises(InvalidParameter) as refused:
        ask(repo, "a:1 c:1")
    assert [fault.parameter for fault in refused.value.faults] == ["where"]
    assert "ANALYTICS_COLUMN_PATHS" in refused.value.faults[0].message
    put(owner, 40, '{"c": 2}')
    catch_up(folded)
    write_columns(owner, limit=3)  # has a higher limit from now on
    with pytest.raises(InvalidParameter) as refused:
        ask(repo, "c:2")
    assert "2025-03-01T09:00:00Z" in refused.value.faults[0].message
    assert ask(repo, "c:2", start=DAY_0 + timedelta(hours=10)).data.events == 30


def test_columns_whose_properties_were_dropped_are_refused(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    put(owner, 10, '{"a": 1}')
    catch_up(folded)
    write_columns(owner)
    with owner.cursor() as cur:
        cur.execute("update column_state set columns_from = %s", (DAY_0 + timedelta(hours=4),))
    with pytest.raises(EventsDropped, match="2025-03-01T04:00:00Z"):
        ask(repo, "a:1")
    assert ask(repo, "a:1", start=DAY_0 + timedelta(hours=4)).data.events == 6
    assert ask(repo, "@user:u1").data.events == 10


def test_the_deadline_ends_an_evaluation(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    put(owner, 10)
    catch_up(folded)
    write_columns(owner, 2)
    reading = repo.get_event_counts(EventCounts(where=["-a:*"], **SHARED).query)
    assert isinstance(reading, Reading)
    calls: list[None] = []

    def checkpoint() -> None:
        calls.append(None)
        if len(calls) == 3:
            raise DeadlineExceeded

    with pytest.raises(DeadlineExceeded):
        reading.evaluate(checkpoint)


def test_without_rollups_all_events_are_the_tail(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    put(owner, 3, '{"a": 1}')
    put(owner, 2, '{"a": 2}', user="")
    answer = ask(repo, "a:*", event=["view"])
    assert (answer.data.events, answer.data.users, answer.meta.source) == (5, 1, "columns")
