"""Changes the clock of one database, by replacing now()."""

from datetime import datetime

from psycopg2.extensions import connection

_SHIFTED = """
do $$
begin
    if to_regprocedure('pg_catalog.real_now()') is null then
        alter function pg_catalog.now() rename to real_now;
    end if;
end
$$;
create or replace function pg_catalog.now() returns timestamptz language sql stable
as $$ select pg_catalog.real_now() + interval '{seconds} seconds' $$;
"""


def set_clock(conn: connection, instant: datetime) -> None:
    """Set the clock, which then runs on, for all statements that are parsed later."""
    with conn.cursor() as cur:
        cur.execute("select clock_timestamp()")
        (server_time,) = cur.fetchone() or ()
        cur.execute(_SHIFTED.format(seconds=(instant - server_time).total_seconds()))
