"""What the planner's statistics keep of users: samples of values, which outlast the rows."""

from psycopg2.extensions import cursor

from repo.statements import statements

SQL = statements("planner_statistics")


def disable_statistics(cur: cursor) -> None:
    """Keep none of columns that hold ids or properties, and drop what is there. As the owner."""
    cur.execute(SQL["planner_statistics_disable"])


def refresh_time_statistics(cur: cursor) -> None:
    """Take new samples of times where an old one holds a time at which nothing happens any more.

    As the owner, in the transaction that deletes.
    """
    cur.execute(SQL["planner_statistics_has_old_times"])
    if cur.fetchone() == (True,):
        cur.execute(SQL["planner_statistics_refresh_times"])
