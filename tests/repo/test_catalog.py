"""What the catalog says about a table, and tables that cannot be adopted."""

import pytest
from psycopg2.extensions import connection

from repo.adopt.catalog import CannotAdopt, Table, find_table

VISITS = """
create schema app;
create domain app.name as text;
create table app.visits (
    day  date    not null,
    id   bigint  not null,
    who  app.name,
    at   timestamp without time zone,
    primary key (id, day)
) partition by range (day);
create table app.visits_of_2026 partition of app.visits
    for values from ('2026-01-01') to ('2027-01-01');
create view app.latest as select * from app.visits;
create schema other;
create table other.visits (id int);
"""


def find(conn: connection, name: str) -> Table:
    with conn.cursor() as cur:
        cur.execute(VISITS)
        return find_table(cur, name)


def test_a_table_has_its_columns_and_its_key(conn: connection) -> None:
    table = find(conn, "app.visits")
    assert (table.schema, table.name, table.is_partitioned) == ("app", "visits", True)
    assert table.key == ("id", "day")
    assert {column.name: column.base for column in table.columns.values()} == {
        "day": "date",
        "id": "int8",
        "who": "text",
        "at": "timestamp",
    }
    assert table.columns["at"].display_type == "timestamp without time zone"
    assert table.columns["who"].type == "app.name"


def test_a_table_may_have_no_key(conn: connection) -> None:
    assert find(conn, "other.visits").key == ()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("visits", "two tables are named visits"),
        ("app.Visits", "no table is named app.Visits"),
        ("app.latest", "is not a table, and only tables can be adopted"),
        ("app.visits_of_2026", "is a partition: adopt its partitioned table"),
        ("events", "is the table of events of this service"),
    ],
)
def test_other_names_are_rejected_with_the_reason(conn: connection, name: str, reason: str) -> None:
    with pytest.raises(CannotAdopt, match=reason):
        find(conn, name)
