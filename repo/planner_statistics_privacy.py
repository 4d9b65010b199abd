"""Keep user data out of the planner's statistics, whose samples of values outlast the rows."""

from psycopg2.extensions import cursor

from repo.statements import statements

SQL = statements("planner_statistics_privacy")


def disable_statistics(cur: cursor) -> None:
    """Turn statistics off for columns with user data and drop existing samples. Needs the owner."""
    cur.execute(SQL["planner_statistics_privacy_disable"])


def refresh_time_statistics(cur: cursor) -> None:
    """Sample times again if a sample holds a time without an event. Needs the owner.

    Call it in the transaction that deletes events.
    """
    cur.execute(SQL["planner_statistics_privacy_has_old_times"])
    if cur.fetchone() == (True,):
        cur.execute(SQL["planner_statistics_privacy_refresh_times"])
