"""`verify` compares the columns of dropped events with the rollups."""

import pytest
from psycopg2.extensions import connection

from tests.written_columns import (
    PAID,
    column_differences,
    execute,
    field,
    first_increased,
    rewrite,
    without,
)


@pytest.fixture
def dropped(written: connection) -> connection:
    """The events of before the 5th of February were dropped."""
    statement = """
        insert into retention (takes_from, horizon) values ('2026-02-05Z', '2026-02-05Z');
        set session_replication_role = replica;
        delete from events where occurred_at < '2026-02-05Z'
    """
    execute(written, statement)
    return written


def test_columns_of_dropped_events_agree_with_rollups(
    dropped: connection, written_url: str
) -> None:
    assert column_differences(written_url) == []
    rewrite(dropped, without(PAID))  # what nothing can be compared with, up to the horizon
    (first, *_) = column_differences(written_url)
    assert first.startswith("columns 2026-02-05T")


@pytest.mark.parametrize("name", ["user", "name"])
def test_a_difference_from_rollups_is_found(
    dropped: connection, written_url: str, name: str
) -> None:
    rewrite(dropped, field(name, first_increased))
    (first, *_) = column_differences(written_url)
    assert first.startswith("columns 2026-01-31T22:45Z/2026-01-31T23:00Z 'view': stored ")


def test_rollups_count_dropped_events_of_erased_users(
    dropped: connection, written_url: str
) -> None:
    execute(dropped, "update slots set events = events + 1 where name_id > 0 and slot = 1966555")
    (first, *_) = column_differences(written_url)
    assert first == (
        "columns 2026-01-31T22:45Z/2026-01-31T23:00Z 'view': "
        "stored 4 events, 2 users; expected 5 events, 2 users"
    )
    statement = """
        insert into erasures (erasure_id, proof, events, slots, spans, days, suppressed,
                              unknown_before)
        values (gen_random_uuid(), sha256(''), 0, 0, 0, 0, false, '2026-02-05Z')
    """
    execute(dropped, statement)
    assert column_differences(written_url) == []


def test_events_that_were_dropped_before_there_were_columns_are_in_none(
    dropped: connection, written_url: str
) -> None:
    execute(dropped, "delete from column_data; delete from column_chunks")
    execute(dropped, "update column_state set snapshot = '3:3:'")
    assert len(column_differences(written_url)) > 10
    execute(dropped, "update column_state set events_from = '2026-02-05Z'")
    assert column_differences(written_url) == []
