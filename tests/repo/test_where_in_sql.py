"""Filters match the same events in SQL over jsonb, in plain Python, and in chunks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection, cursor
from psycopg2.extras import execute_values
from psycopg2.sql import SQL

from repo.columns.builder import build_chunk
from repo.columns.chunk import Chunk
from tests import where_oracle
from tests.chunks import json_of, matching, record
from tests.example_counts import examples
from tests.where_oracle import Event, load
from tests.where_sql import condition, create_functions, folds_all
from tests.where_strategies import TEXTS, cases

_TABLE = """
create temporary table each_event (
    number integer, user_id text, event_name text, properties jsonb
)
"""


@pytest.fixture
def cur(conn: connection) -> cursor:
    """A cursor on a connection with a table of events and the functions of conditions."""
    cur = conn.cursor()
    cur.execute(_TABLE)
    create_functions(cur)
    return cur


def insert(cur: cursor, events: list[Event]) -> None:
    cur.execute("truncate each_event")
    rows = [
        (number, event.user_id or "", event.event_name, json_of(event.properties).decode())
        for number, event in enumerate(events)
    ]
    execute_values(cur, "insert into each_event values %s", rows)


def matching_in_sql(cur: cursor, where: str) -> list[bool]:
    cur.execute(SQL("select {} from each_event order by number").format(condition(where)))
    return [hit for (hit,) in cur.fetchall()]


def stored_chunk(cur: cursor, events: list[Event]) -> Chunk:
    """The chunk of the events with their properties as PostgreSQL returns them."""
    cur.execute("select properties::text from each_event order by number")
    texts = [text for (text,) in cur.fetchall()]
    rows = enumerate(zip(events, texts, strict=True))
    return build_chunk([record(row, event, text) for row, (event, text) in rows])


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("plan:pro", [1, 5]),
        ("-plan:pro", [2, 3, 4, 6]),
        ("amount:>=100", [2, 4]),
        ("amount:100", [2, 3, 4]),
        ('amount:"100"', [3]),
        ("amount:1e2..1e400", [2, 4]),
        ("items.sku:^a", [1, 6]),
        ("items.sku:~A", [1, 2, 6]),
        ("items:*", [5]),
        ("@user:*", [1, 2, 3, 4, 6]),
        ("@event:buy -@user:u1", [2, 4, 5]),
        ("(plan:pro or amount:>99) -items.sku:b", [1, 4, 5]),
    ],
)
def test_the_same_events(cur: cursor, where: str, expected: list[int]) -> None:
    events = [
        Event("u1", "view", load('{"plan": "pro", "items": [{"sku": "ab"}, {"id": 5}]}')),
        Event("U1", "buy", load('{"plan": "free", "amount": 100.0, "items": {"sku": ["b", "A"]}}')),
        Event("u1", "buy", load('{"amount": "100", "plan": null}')),
        Event("U1", "buy", load('{"amount": [5, 1e2, 1e400]}')),
        Event("", "buy", load('{"plan": ["pro", "team"], "items": [5]}')),
        Event("u1", "view", load('{"items": [[{"sku": "a"}]]}')),
    ]
    insert(cur, events)
    is_expected = [number in expected for number in range(1, 7)]
    assert matching_in_sql(cur, where) == is_expected
    assert matching(where, stored_chunk(cur, events)) == is_expected


@settings(max_examples=examples(900))
@given(data=st.data())
def test_any_filter_matches_the_same_events(cur: cursor, data: st.DataObject) -> None:
    texts = TEXTS if folds_all(cur) else [text for text in TEXTS if text.isascii()]
    case = data.draw(cases(texts))
    insert(cur, case.events)
    expected = [where_oracle.matches(case.where, event) for event in case.events]
    assert matching_in_sql(cur, case.where) == expected
    assert matching(case.where, stored_chunk(cur, case.events)) == expected
