"""What the table itself refuses, whoever writes to it."""

import pytest
from psycopg2 import errors
from psycopg2.extensions import connection

INSERT = """
insert into events (event_id, user_id, event_name, occurred_at, properties)
values (gen_random_uuid(), %(user_id)s, %(event_name)s, %(occurred_at)s, %(properties)s)
"""
GOOD = {
    "user_id": "u",
    "event_name": "view",
    "occurred_at": "2025-01-01T00:00:00Z",
    "properties": "{}",
}


def insert(conn: connection, **other: str) -> None:
    conn.cursor().execute(INSERT, GOOD | other)


def count(conn: connection) -> int:
    with conn.cursor() as cur:
        cur.execute("select count(*) from events")
        (value,) = cur.fetchone() or (0,)
        return int(value)


@pytest.mark.parametrize(
    "statement",
    [
        "update events set user_id = 'v'",
        "update events set user_id = user_id where false",
        "delete from events",
        "truncate events",
    ],
)
def test_rows_are_facts(conn: connection, statement: str) -> None:
    insert(conn)
    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="events are facts") as refused:
        conn.cursor().execute(statement)
    hint = refused.value.diag.message_hint or ""
    assert "main.py erase" in hint
    assert "main.py retain" in hint
    assert count(conn) == 1


@pytest.mark.parametrize(
    ("field", "good"),
    [
        ("occurred_at", "2000-01-01T00:00:00Z"),
        ("occurred_at", "2099-12-31T23:59:59.999999Z"),
        ("user_id", ""),
        ("user_id", "ü" * 128),
        ("event_name", "x" * 200),
        ("properties", '{"a": "' + "x" * 65_500 + '"}'),
    ],
)
def test_the_edges_are_taken(conn: connection, field: str, good: str) -> None:
    insert(conn, **{field: good})
    assert count(conn) == 1


@pytest.mark.parametrize(
    ("field", "bad", "constraint"),
    [
        ("occurred_at", "1999-12-31T23:59:59.999999Z", "events_occurred_at_is_of_these_years"),
        ("occurred_at", "2100-01-01T00:00:00Z", "events_occurred_at_is_of_these_years"),
        ("occurred_at", "infinity", "events_occurred_at_is_of_these_years"),
        ("occurred_at", "-infinity", "events_occurred_at_is_of_these_years"),
        ("user_id", "ü" * 129, "events_user_id_is_short"),
        ("event_name", "", "events_event_name_is_short"),
        ("event_name", "x" * 201, "events_event_name_is_short"),
        ("properties", "[]", "events_properties_is_a_small_object"),
        ("properties", "null", "events_properties_is_a_small_object"),
        ("properties", '{"a": "' + "x" * 65_536 + '"}', "events_properties_is_a_small_object"),
        ("properties", '{"a": 1e131071}', "events_properties_is_a_small_object"),
    ],
)
def test_poison_is_kept_out(conn: connection, field: str, bad: str, constraint: str) -> None:
    with pytest.raises(errors.CheckViolation) as refused:
        insert(conn, **{field: bad})
    assert refused.value.diag.constraint_name == constraint


def test_an_event_counts_once(conn: connection) -> None:
    insert(conn)
    with pytest.raises(errors.UniqueViolation):
        conn.cursor().execute(
            "insert into events (event_id, event_name, occurred_at) "
            "select event_id, event_name, occurred_at from events"
        )
    assert count(conn) == 1


def test_the_transaction_of_a_row_cannot_be_forged(conn: connection) -> None:
    """Rows copied with the ids of older transactions would be taken for counted ones."""
    insert(conn)
    with pytest.raises(errors.CheckViolation) as refused:
        conn.cursor().execute(
            "insert into events select gen_random_uuid(), user_id, event_name, occurred_at, "
            "properties, ingested_xid from events"
        )
    assert refused.value.diag.constraint_name == "events_ingested_xid_is_its_own"
