"""Changes the clock of one database, by shadowing now()."""

from datetime import datetime

from psycopg2.extensions import connection, parse_dsn

_SHIFTED = """
create or replace function public.now() returns timestamptz language sql stable
as $$ select pg_catalog.now() + interval '{seconds} seconds' $$;
alter database "{name}" set search_path = public, pg_catalog;
set search_path = public, pg_catalog;
"""


def set_clock(conn: connection, instant: datetime) -> None:
    """Set the clock, which then runs on, for this session and all later ones."""
    with conn.cursor() as cur:
        cur.execute("select clock_timestamp()")
        (server_time,) = cur.fetchone() or ()
        seconds = (instant - server_time).total_seconds()
        cur.execute(_SHIFTED.format(seconds=seconds, name=parse_dsn(conn.dsn)["dbname"]))
