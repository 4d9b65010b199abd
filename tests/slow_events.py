"""Slows down queries for tests."""

from psycopg2.extensions import connection


def slow_down(conn: connection, seconds: float) -> None:
    """Make each later statement on events take at least so many seconds."""
    cur = conn.cursor()
    cur.execute("select to_regclass('stored_events')")
    if cur.fetchone() == (None,):
        cur.execute("alter table events rename to stored_events")
        cur.execute("create table slowness as select 0::float8 as seconds")
        cur.execute(
            "create view events as select * from stored_events "
            "where (select pg_sleep(seconds) is not null from slowness)"
        )
        cur.execute("grant select on events to analytics_reader")
    cur.execute("update slowness set seconds = %s", (seconds,))
