"""What a process remembers of the dictionary of event names: what it was asked for, and bounded."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection

from common.questions.base import Counting
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from config.database import Cursor
from repo.engine import rollup_source
from repo.engine.dimensions import EventNameDictionary, EventNameFilter
from repo.engine.watermark import read_watermark
from repo.rollups.rollup_writer import RollupWriter
from tests.events import insert
from tests.source_comparison import Asker, compute_answer
from utils.time.zones import zone

ZONES = [zone("UTC")]
NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FULL_RANGE = {"start": "2026-03-01", "end": "2026-04-01"}
MANY = 5_000

_MANY = """
insert into events (event_id, user_id, event_name, occurred_at)
select gen_random_uuid(), 'u' || n %% 9, 'name ' || n, %s from generate_series(1, %s) as n
"""
_READ = """
select pg_stat_get_xact_tuples_returned('event_names'::regclass)
       + pg_stat_get_xact_tuples_fetched('event_names'::regclass)
"""


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> EventNameDictionary:
    """What this process knows: nothing of other tests, and little."""
    dictionary = EventNameDictionary(max_entries=100)
    monkeypatch.setattr(rollup_source, "_EVENT_NAMES", dictionary)
    return dictionary


@pytest.fixture
def many(conn: connection) -> connection:
    """Names that each have one event on the same day."""
    with conn.cursor() as cur:
        cur.execute(_MANY, (NOON, MANY))
    RollupWriter(conn, ZONES).catch_up()
    conn.cursor().execute("analyze event_names")
    return conn


def one(cur: Any, text: str) -> Any:
    cur.execute(text)
    (value,) = cur.fetchone() or (None,)
    return value


def names_read(asker: Asker, question: Counting) -> int:
    """Rows of the dictionary that a question reads."""
    with asker.snapshot() as cur:
        compute_answer(cur, question)
        return int(one(cur, _READ))


def test_one_new_name_does_not_read_the_others(many: connection, asker: Asker) -> None:
    """Neither before it is folded nor after."""
    later = {"start": "2026-03-25", "end": "2026-03-26"}
    top = TopEvents(**later)
    for name in ("new", "newer"):
        insert(many, ("u", name, NOON + 5 * DAY))
        assert names_read(asker, top) < 10
        assert names_read(asker, EventCounts(**later, event=[name])) < 10
        RollupWriter(many, ZONES).catch_up()
        assert names_read(asker, top) < 10
        assert names_read(asker, EventCounts(**later, event=[name])) < 10
    assert [row.event_name for row in asker.compare(top).rows] == ["new", "newer"]


def test_what_is_remembered_is_bounded(
    many: connection, asker: Asker, known: EventNameDictionary
) -> None:
    question = TopEvents(**FULL_RANGE, limit=1000)
    rows = asker.compare(question).rows
    names = sorted(f"name {n}" for n in range(1, MANY + 1))
    assert [row.event_name for row in rows] == names[:1000]
    insert(many, *((f"u{n}", f"name {n}", NOON + DAY) for n in range(500)))
    rows = asker.compare(question).rows
    assert [row.event_name for row in rows[:499]] == sorted(f"name {n}" for n in range(1, 500))
    for dictionary in known._dictionaries.values():
        assert len(dictionary.names) <= 100
        assert len(dictionary.ids) <= 100


def test_names_that_tie_stand_in_the_order_of_their_code_points(
    conn: connection, asker: Asker
) -> None:
    """Whether they are folded or not, and whatever order PostgreSQL would have."""
    folded = ["b", "B", "ä", "z", "Z", "a b", "a-b", "ab", "\N{GREEK SMALL LETTER OMEGA}", "often"]
    waiting = ["a", "A", "é", "\N{GRINNING FACE}", "\N{FULLWIDTH LATIN SMALL LETTER A}", "often"]
    for name in sorted(folded, reverse=True):  # so that numbers have another order
        insert(conn, ("u", name, NOON))
        RollupWriter(conn, ZONES).catch_up()
    insert(conn, *(("v", name, NOON) for name in waiting))
    expected = ["often", *sorted({*folded, *waiting} - {"often"})]
    for limit in range(1, 17):
        top = asker.compare(TopEvents(**FULL_RANGE, limit=limit))
        assert [row.event_name for row in top.rows] == expected[:limit]
        assert top.other.event_names == len(expected) - len(top.rows)


def names_in(cur: Cursor, dictionary: EventNameDictionary) -> EventNameFilter:
    state = read_watermark(cur)
    assert state is not None
    return EventNameFilter(cur, state, None, dictionary, by_name=True)


def test_a_name_keeps_its_key_while_another_thread_learns_its_number(
    conn: connection, asker: Asker, known: EventNameDictionary
) -> None:
    RollupWriter(conn, ZONES).catch_up()
    with asker.snapshot() as cur:
        names = names_in(cur, known)
        assert dict(names.keys_of_events(["new"])) == {"new": "new"}
        insert(conn, ("u", "new", NOON))
        RollupWriter(conn, ZONES).catch_up()
        state = read_watermark(cur)
        assert state is not None
        known._dictionary(state.memory_key).ids.put_many({"new": 1})
        assert names.keys_of_events(["new"])["new"] == "new"
        assert names.names_of(["new"]) == {"new": "new"}
        later = names_in(cur, known)
        assert later.keys_of_events(["new"])["new"] == 1
        assert later.names_of([1]) == {1: "new"}  # which this snapshot does not see


def test_names_of_two_lineages_are_known_at_the_same_time(
    conn: connection, asker: Asker, known: EventNameDictionary
) -> None:
    """Threads ask for both while questions move from one to the other."""
    insert(conn, ("u1", "view", NOON))
    RollupWriter(conn, ZONES).catch_up()
    known._dictionary("another").names.put_many({1: "what 1 was there"})
    known._dictionary("another").ids.put_many({"view": 77})
    with asker.snapshot() as cur:
        assert known.names(cur, "one", [1]) == {1: "view"}
        assert known.ids(cur, "one", ["view", "none"]) == {"view": 1}
        assert known.names(cur, "another", [1]) == {1: "what 1 was there"}
        assert known.ids(cur, "another", ["view"]) == {"view": 77}
        for n in range(10):
            known.names(cur, f"lineage {n}", [1])
    assert len(known._dictionaries) == 2
