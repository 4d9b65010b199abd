"""`python main.py verify` of columns: it finds each difference, and nothing else."""

import pytest
from psycopg2.extensions import connection

from commands.verify import verify_all
from repo.lifecycle.erasure import EraseRepo
from repo.rollups.rollup_writer import RollupWriter
from repo.verify.sample import verify_sample
from tests.written_columns import (
    PAID,
    UNLOCKED,
    column_differences,
    differences,
    execute,
    rewrite,
    without,
)


def test_nothing_is_found_in_what_is_right(written_url: str) -> None:
    assert differences(written_url) == []


def test_columns_are_read(written: connection, written_url: str) -> None:
    """The test above must not pass because nothing was compared."""
    execute(written, "delete from column_data")
    execute(written, "delete from column_chunks")
    found = verify_all(written_url, [])
    assert found.differences == 202  # two of the events have the same user, name and time
    assert str(found.listed[0]) == (
        "columns 2026-01-31T22:50:00Z 'view' of no user: stored 0 events; expected 1 event"
    )


PLANTED = {
    "an event that is not written": (
        "update column_state set snapshot = '3:3:'",
        "'view' of no user: stored 1 event; expected 0 events",
    ),
    "an event that the backfill has not reached": (
        "update column_state set backfill_to = snapshot, backfilled_from = '2026-02-01Z', "
        "backfilled_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff'",
        "stored 1 event; expected 0 events",
    ),
    "a chunk twice": (
        "with twin as (insert into column_chunks (generation, format, tier, is_late, events, "
        "bytes, first, last) select generation, format, tier, is_late, events, bytes, first, last "
        "from column_chunks returning chunk_id) insert into column_data select generation, "
        "twin.chunk_id, path_id, kind, data from column_data, twin",
        "'view' of no user: stored 2 events; expected 1 event",
    ),
    "a chunk without columns": (
        "delete from column_data",
        "column_chunks chunk 1: stored no columns; expected columns",
    ),
    "columns without a chunk": (
        "delete from column_chunks",
        "column_data chunk 1: stored columns; expected none, as column_chunks lacks it",
    ),
    "a chunk of another generation": (
        "update column_chunks set generation = 2",
        "'view' of no user: stored 0 events; expected 1 event",
    ),
    "the number of events": (
        "update column_chunks set events = 5",
        "column_chunks chunk 1: stored events 5, first 823",
    ),
    "the first event": (
        "update column_chunks set first = first + interval '1 microsecond'",
        "column_chunks chunk 1: stored events 203, first 8232",
    ),
    "the last event": (
        "update column_chunks set last = last - interval '1 day'",
        "column_chunks chunk 1: stored events 203, first 8232",
    ),
    "the size": (
        "update column_chunks set bytes = bytes * 2",
        "column_chunks chunk 1: stored bytes ",
    ),
    "properties that were dropped": (
        "update column_chunks set has_properties = false",
        "chunk 1: stored columns of properties; expected none, as has_properties is false",
    ),
    "bytes that are no column": (
        "update column_data set data = substr(data, 2)",
        "column_chunks chunk 1: stored column 0.0 that cannot be read",
    ),
    "bytes of another column": (
        "update column_data set path_id = 1, kind = 1",
        "column_chunks chunk 1: stored column 'plan' (text) that cannot be read (it holds",
    ),
    "a path that is not registered": (
        "delete from column_paths where path = '{plan}'",
        "with a path_id that is not in column_paths; expected none of these",
    ),
    "a path that is registered twice": (
        "insert into column_paths select generation, 100, path from column_paths "
        "where path = '{plan}'",
        "column_paths path_id 100: stored a path that has another id as well",
    ),
    "a path of another property": (
        "update column_paths set path = '{plan2}' where path = '{plan}'",
        "other values of 'plan' (text), 'plan2' (text); expected those of the event",
    ),
    "an event that was deleted": (
        "set session_replication_role = replica; delete from events where user_id = ''",
        "'view' of no user: stored 1 event; expected 0 events",
    ),
    "a property that changed": (
        f"{UNLOCKED}"
        'update events set properties = properties || \'{"n": "3"}\' '
        "where properties @> '{\"n\": 3}'",
        "stored other values of 'n' (number), 'n' (text); expected those of the event",
    ),
    "a user with another ordinal": (
        "update users set ordinal = 99 where user_id = 'u3'",
        "of user 99: stored 0 events; expected 1 event",
    ),
    "a user without an ordinal": (
        "delete from users where user_id = 'u3'",
        "of a user without an ordinal: stored 0 events; expected 1 event",
    ),
    "an erased user who is not known as one": (
        "set session_replication_role = replica; "
        "delete from events where user_id = 'u3'; delete from users where user_id = 'u3'",
        "stored 1 event; expected 0 events",
    ),
    "a user whose erasure takes too long": (
        "insert into columns_erasures values (500, 1, now() - interval '25 hours')",
        "columns_erasures ordinal 500: stored a user erased at ",
    ),
    "an erased user who is back": (
        "insert into columns_erasures select ordinal, 1 from users where user_id = 'u3'",
        "stored an ordinal that is in use; expected the ordinal of an erased user",
    ),
    "columns that are ahead of the rollups": (
        "update column_state set snapshot = pg_current_snapshot()",
        "column_state snapshot: stored ",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_difference_in_tables_is_found(written: connection, written_url: str, name: str) -> None:
    statement, line = PLANTED[name]
    assert execute(written, statement) > 0
    reported = differences(written_url)
    assert any(line in each for each in reported), reported


def test_erased_users_are_left_out(written: connection, written_url: str) -> None:
    statement = """
        set session_replication_role = replica;
        insert into columns_erasures select ordinal, 1 from users where user_id = 'u3';
        delete from events where user_id = 'u3';
        delete from users where user_id = 'u3'
    """
    execute(written, statement)
    assert column_differences(written_url) == []


def test_properties_of_before_a_time_are_not_compared(
    written: connection, written_url: str
) -> None:
    execute(written, "update column_state set columns_from = '2026-02-05Z'")
    rewrite(written, without(PAID))
    (first, *_) = differences(written_url)
    assert first.startswith("columns 2026-02-05T")


def test_a_sample_compares_columns(written: connection) -> None:
    assert verify_sample(written).differences == 0
    execute(written, "delete from column_chunks")
    assert any("columns 2" in str(line) for line in verify_sample(written).listed)


def test_nothing_is_found_after_an_erasure_and_a_rebuild(
    written: connection, written_url: str
) -> None:
    writer = RollupWriter(written, [])
    EraseRepo(written).erase("u3")
    assert execute(written, "select from columns_erasures") == 1
    assert differences(written_url) == []
    writer.catch_up()
    assert execute(written, "select from columns_erasures") == 0
    assert differences(written_url) == []
    writer.rebuild()
    assert differences(written_url) == []
