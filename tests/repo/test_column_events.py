"""`verify` of columns recounts events of any shape, as far as they are written."""

from datetime import timedelta

import pytest
from psycopg2.extensions import connection

from repo.columns.consumer import Consumer
from repo.columns.unwritten_events import Limits
from tests.events import insert
from tests.written_columns import NOW, OLD, UNLOCKED, consume, differences, events, execute, fold


@pytest.mark.parametrize(
    "properties",
    [
        '{"n": 1e400}',
        '{"n": [9007199254740993, 0.1, -0.0, 1.50, 12345678901234567890.5]}',
        '{"n": 1e-20}',
        f'{{"deep": {"[" * 3_000}1{"]" * 3_000}}}',
        f'{{"deep": {"[" * 1_000}"\u00e9,:]\\"",{{"k":[true,-1.50]}}{"]" * 1_000}}}',
        f'{{"n": {"7" * 20_000}}}',
        f'{{"{"k" * 3_000}": 1}}',
        '{"a": {"b": 1}, "a.b": 2}',
        '{"plan": "5", "n": 5, "t": true, "list": [null, {}, [], [["x"]]]}',
    ],
)
def test_properties_of_any_shape_are_compared(
    conn: connection, database_url: str, properties: str
) -> None:
    for number in range(3):
        insert(conn, ("u", "view", OLD + timedelta(hours=number), {}))
    insert_text = (
        "insert into events (event_id, user_id, event_name, occurred_at, properties) "
        "values (gen_random_uuid(), 'u', 'view', %s, %s)"
    )
    execute(conn, insert_text, OLD, properties)
    fold(conn)
    consume(conn)
    assert differences(database_url) == []
    execute(
        conn,
        f"{UNLOCKED} update events set properties = '{{}}'",
    )
    assert len(differences(database_url)) == 1 or "k" * 3_000 in properties


def test_large_chunks_are_compared(conn: connection, database_url: str) -> None:
    """Each column of theirs is a row of the table."""
    statement = """
        insert into events (event_id, user_id, event_name, occurred_at, properties)
        select gen_random_uuid(), 'u' || n %% 50, 'view', %s::timestamptz + n * interval '1 minute',
               jsonb_build_object('n', n, 'path', '/p/' || n %% 20)
        from   generate_series(1, 9000) as n
    """
    execute(conn, statement, OLD)
    fold(conn)
    consume(conn)
    assert differences(database_url) == []
    assert execute(conn, "delete from column_data where (path_id, kind) = (2, 1)") == 1
    assert "'path' (text)" in differences(database_url)[0]


def test_future_events_and_chunks_that_overlap_are_compared(
    conn: connection, database_url: str
) -> None:
    for days in (2, -1, -400, 3):
        instant = NOW + timedelta(days=days)
        insert(conn, *events(), ("u1", "view", instant, {"plan": "later"}))
        fold(conn)
        consume(conn)
    assert execute(conn, "select from column_chunks") == 6
    assert differences(database_url) == []
    assert execute(conn, "delete from column_chunks where last > now()") == 2
    assert len(differences(database_url)) == 4  # two events, and the columns of two chunks


def test_a_backfill_under_way_is_right(conn: connection, database_url: str) -> None:
    insert(conn, *events())
    fold(conn)
    consumer = Consumer(conn, 2_000, max_new_events=100, limits=Limits(events=20, bytes=10**6))
    while consumer.step(is_lazy=False):
        assert differences(database_url) == []


def test_values_that_were_left_out_are_not_compared(conn: connection, database_url: str) -> None:
    insert(conn, *events())
    fold(conn)
    while Consumer(conn, 3).step(is_lazy=False):
        pass
    assert differences(database_url) == []
    insert(conn, *events())
    fold(conn)
    consume(conn)
    assert execute(conn, "select from column_paths where since > '-infinity'") > 0
    assert differences(database_url) == []
    execute(conn, "update column_state set left_out = false")
    execute(conn, "update column_paths set since = '-infinity'")
    assert differences(database_url) != []
