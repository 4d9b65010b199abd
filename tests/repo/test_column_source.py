"""Event counts with filters agree with plain Python, from chunks and from their tail."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection
from psycopg2.extras import execute_values

from common.questions.answer import Answer, is_absent
from common.questions.event_counts import EventCounts, EventCountsData
from config.database import Database, get_connection
from repo.columns import codec
from repo.columns.cache import COLUMN_CACHE, ColumnFolder
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
         column_state, column_chunks, column_data, column_paths, columns_erasures;
reset session_replication_role
"""
INSERT = "insert into events (event_id, user_id, event_name, occurred_at, properties) values %s"
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def database_url(cluster: Cluster) -> str:
    return cluster.migrated_database()


@pytest.fixture(scope="module")
def owner(database_url: str) -> Iterator[connection]:
    conn = psycopg2.connect(database_url)
    conn.autocommit = True
    yield conn
    conn.close()


@pytest.fixture(scope="module")
def repo(database_url: str) -> Iterator[EventsRepo]:
    database = Database(database_url, size=1, waiters=0, acquire_timeout_s=1, name="columns")
    yield EventsRepo(get_connection(database, time.monotonic() + 600))
    database.close()


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
    is_packed: bool
    has_folder: bool
    max_bytes: int
    """The bound of the cache."""
    erased: frozenset[str]


few = st.integers(0, 20)
lives = st.builds(
    Life,
    cuts=st.tuples(few, few, few),
    sizes=st.tuples(st.integers(1, 7) | st.just(131_072), st.integers(1, 7)),
    is_packed=st.booleans(),
    has_folder=st.booleans(),
    max_bytes=st.sampled_from([0, 10_000, 2**26]),
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
        if size:
            write_columns(owner, size)
    insert(owner, rows)
    for user in world.life.erased:
        erase(owner, user)


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
    assert (data.events, data.users) == counts(events, where)
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
        for kind, count in note.skipped.items()
    }
