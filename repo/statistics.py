"""What the planner's statistics keep of users: samples of values, which outlast the rows."""

from psycopg2.extensions import cursor

from repo.statements import statements

SQL = statements("statistics")


def settle_statistics(cur: cursor) -> None:
    """Keep none of columns that hold ids or properties, and drop what is there. As the owner."""
    cur.execute(SQL["statistics_settle"])


def refresh_moments(cur: cursor) -> None:
    """Take new samples of times where an old one holds a time at which nothing happens any more.

    As the owner, in the transaction that deletes.
    """
    cur.execute(SQL["statistics_has_gone_moments"])
    if cur.fetchone() == (True,):
        cur.execute(SQL["statistics_moments"])
