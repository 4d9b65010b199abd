"""Batches: what is new is stored, once, whichever way it goes."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection

from config.database import Database, get_connection
from repo.ingest import Event, HttpEventsRepo, IngestRepo, Inserted, as_rows
from repo.rejection_reasons import EventsRefused
from services.ingest.validation import min_stored_size
from tests.factories import ID
from tests.source_comparison import connected
from utils.session_options import INGEST_OPTIONS

LONG_AGO = "2025-01-31T09:00:00Z"


def rows(*numbers: int, properties: str = "{}") -> list[str]:
    """The name tells which place in its batch an event had."""
    events = (
        Event(ID.format(n), "u", f"name{index}", LONG_AGO, properties)
        for index, n in enumerate(numbers)
    )
    return as_rows(events)


def stored(conn: connection) -> dict[int, str]:
    with conn.cursor() as cur:
        cur.execute("select event_id, event_name from events")
        return {int(event_id[-12:]): name for event_id, name in cur}


@pytest.fixture
def opened(database_url: str) -> Iterator[connection]:
    with connected(database_url) as conn:
        yield conn


def test_what_is_new_is_stored_and_the_first_of_an_id_counts(opened: connection) -> None:
    repo = IngestRepo(opened)
    assert repo.insert(rows(3, 1, 2)) == Inserted(3, 0)
    assert repo.insert(rows(1, 2, 3)) == Inserted(0, 0)
    assert repo.insert(rows(5, 3, 5, 4)) == Inserted(2, 0)
    assert repo.insert(rows(6)) == Inserted(1, 0)
    assert repo.insert(rows(8, 7, 8)) == Inserted(2, 0)
    assert repo.insert([]) == Inserted(0, 0)
    names = {1: "name1", 2: "name2", 3: "name0", 4: "name3", 5: "name0", 6: "name0"}
    assert stored(opened) == names | {7: "name1", 8: "name0"}


BREAKING = [
    ({"user_id": "ü" * 129}, "user_id must be at most 256 bytes long"),
    ({"event_name": ""}, "event_name must be 1 to 200 bytes long"),
    ({"event_name": "n" * 201}, "event_name must be 1 to 200 bytes long"),
    ({"occurred_at": "1999-12-31T23:59:59Z"}, "occurred_at must be within the years 2000 to 2099"),
    ({"occurred_at": "2100-01-01T00:00:00Z"}, "occurred_at must be within the years 2000 to 2099"),
    ({"properties": "[]"}, "properties must be an object of less than 64 kB"),
    (
        {"properties": '{"a":"%s"}' % ("x" * 65_527)},
        "properties must be an object of less than 64 kB",
    ),
    ({"properties": '{"a":1e131071}'}, "properties must be an object of less than 64 kB"),
]
UNCHANGED = [
    {"user_id": "ü" * 128},
    {"event_name": "n" * 200},
    {"occurred_at": "2000-01-01T00:00:00Z"},
    {"occurred_at": "2099-12-31T23:59:59.999999Z"},
    {"properties": '{"a":"%s"}' % ("x" * 65_526)},
]
UNREADABLE = {"properties": '{"x": 1e-140000}'}


def row(number: int, changed: dict[str, str]) -> str:
    usual = Event(ID.format(number), "u", "view", LONG_AGO, "{}")
    return as_rows([usual._replace(**changed)])[0]


@pytest.mark.parametrize("more", [[], [UNREADABLE]], ids=["at once", "one at a time"])
def test_all_that_break_a_constraint_are_told(
    database_url: str, more: list[dict[str, str]]
) -> None:
    """And these are the ones that the table refuses."""
    database = Database(
        database_url, size=1, waiters=1, acquire_timeout_s=5, name="t", options=INGEST_OPTIONS
    )
    events = [*UNCHANGED, *(changed for changed, _ in BREAKING), *more]
    batch = [row(n, changed) for n, changed in enumerate(events)]
    try:
        repo = HttpEventsRepo(get_connection(database, time.monotonic() + 30))
        refusals, are_all = repo.get_refused(batch, 10)
        expected = [*(reason for _, reason in BREAKING), *(None for _ in more)]
        assert refusals == list(zip(range(len(UNCHANGED), len(batch)), expected, strict=True))
        assert are_all
        assert repo.get_refused(batch[: len(UNCHANGED)], 10) == ([], False)
        for index, reason in refusals:
            with pytest.raises(EventsRefused) as refused:
                repo.insert([batch[index]])
            assert refused.value.reason == reason
        assert repo.insert(batch[: len(UNCHANGED)]).inserted == len(UNCHANGED)
    finally:
        database.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab/\\\"\t", max_size=3), inner),
    max_leaves=20,
)  # fmt: skip
ODD = [
    "[0.000000e9, 0.0001E+4, 12.50E-1, -0, -0.0, 1.50e3, 1e-5, 10E05]",
    r'{"\u0061\/": "\ud83d\ude00\u00e9\u0001"}',
]
FORMS: list[dict[str, Any]] = [
    {},
    {"ensure_ascii": False},
    {"indent": 2},
    {"separators": (",", ":")},
]


def test_postgresql_writes_no_less_than_was_foreseen(opened: connection) -> None:
    @given(value=JSON, form=st.sampled_from(FORMS))
    def check(value: Any, form: dict[str, Any]) -> None:
        assert min_stored_size(text := json.dumps(value, **form)) <= written(text)

    def written(text: str) -> int:
        with opened, opened.cursor() as cur:
            cur.execute("select octet_length(%s::jsonb::text)", (text,))
            (size,) = cur.fetchone() or (0,)
        return int(size)

    for text in ODD:
        assert min_stored_size(text) <= written(text)
    for text in ('{"a": "b"}', '{"a": [1, "\\\\", 2.5]}'):
        assert min_stored_size(text) >= written(text) - 5
    check()


def test_of_a_batch_that_is_refused_nothing_is_stored(opened: connection) -> None:
    repo = IngestRepo(opened)
    bad = rows(2, properties='{"a": 1e999999999}')
    for expected in ([], rows(1)):  # copied, and staged since one is there
        repo.insert(expected)
        with pytest.raises(EventsRefused):
            repo.insert([*rows(1), *bad, *rows(3)])
        assert set(stored(opened)) == {int(row.split("\t")[0][-12:]) for row in expected}
    assert repo.insert(rows(4)) == Inserted(1, 0)


@settings(max_examples=40)
@given(batches=st.lists(st.lists(st.integers(0, 12), max_size=6), max_size=6))
def test_each_id_is_stored_once(opened: connection, batches: list[list[int]]) -> None:
    with opened.cursor() as cur:
        cur.execute("set local analytics.reason = 'erase'; delete from events")
    opened.commit()
    repo, expected = IngestRepo(opened), dict[int, str]()
    for batch in batches:
        new = dict.fromkeys(n for n in batch if n not in expected)
        assert repo.insert(rows(*batch)) == Inserted(len(new), 0)
        expected |= {n: f"name{batch.index(n)}" for n in new}
    assert stored(opened) == expected


def test_writers_of_the_same_do_not_lock_each_other_out(database_url: str) -> None:
    """In any order: one of them waits, and the other's are there then."""
    writers, numbers = 4, range(400)
    ready = threading.Barrier(writers)

    def write(writer: int) -> int:
        order = list(numbers) if writer % 2 else list(reversed(numbers))
        with connected(database_url) as conn:
            repo = IngestRepo(conn)
            ready.wait()
            return sum(repo.insert(rows(*order[at : at + 40])).inserted for at in range(0, 400, 40))

    with ThreadPoolExecutor(writers) as threads:
        assert sum(threads.map(write, range(writers))) == 400
    with psycopg2.connect(database_url) as conn:
        assert len(stored(conn)) == 400
    conn.close()
