"""Batches: what is new is stored, once, whichever way it goes."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection

from repo.ingest import Event, EventsRefused, IngestRepo, Inserted, as_rows
from tests.given import ID
from tests.rollups import connected

LONG_AGO = "2025-01-31T09:00:00Z"


def rows(*numbers: int, properties: str = "{}") -> list[str]:
    """The name tells which place in its batch an event had."""
    events = (
        Event(ID.format(n), "u", f"name{place}", LONG_AGO, properties)
        for place, n in enumerate(numbers)
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


def test_of_a_batch_that_is_refused_nothing_is_stored(opened: connection) -> None:
    repo = IngestRepo(opened)
    bad = rows(2, properties='{"a": 1e999999999}')
    for known in ([], rows(1)):  # copied, and staged since one is there
        repo.insert(known)
        with pytest.raises(EventsRefused):
            repo.insert([*rows(1), *bad, *rows(3)])
        assert set(stored(opened)) == {int(row.split("\t")[0][-12:]) for row in known}
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
        given = list(numbers) if writer % 2 else list(reversed(numbers))
        with connected(database_url) as conn:
            repo = IngestRepo(conn)
            ready.wait()
            return sum(repo.insert(rows(*given[at : at + 40])).inserted for at in range(0, 400, 40))

    with ThreadPoolExecutor(writers) as threads:
        assert sum(threads.map(write, range(writers))) == 400
    with psycopg2.connect(database_url) as conn:
        assert len(stored(conn)) == 400
    conn.close()
