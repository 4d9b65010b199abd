"""An outbox for the business metrics: counts of folded events, each published once.

All functions run in transactions of the rollup writer.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from psycopg2.extensions import cursor

from repo.statements import statements

SQL = statements("metrics_outbox")

OTHER = "other"
"""The label of all event names without a label of their own."""
PERIODS = ("today", "7d", "30d")


def add(cur: cursor, names: Mapping[int, int]) -> None:
    """Add the events of a fold by `name_id`, for a rollup worker that publishes metrics."""
    params = {"name_ids": list(names), "events": list(names.values())}
    cur.execute(SQL["metrics_outbox_add"], params)


def add_missed(cur: cursor, generation: int, until: datetime) -> None:
    """Add events that a new generation has folded and the one that it replaces has not."""
    cur.execute(SQL["metrics_outbox_add_missed"], {"generation": generation, "until": until})


def forget_foreign(cur: cursor) -> None:
    """Delete the counts that a restore has brought: the original database publishes them."""
    cur.execute(SQL["metrics_outbox_delete_foreign"])


def take_counts(cur: cursor, names: Sequence[str]) -> dict[str, int]:
    """Remove and return the unpublished counts of these names, and of all others as `other`."""
    cur.execute(SQL["metrics_outbox_pop"], {"event_names": list(names), "other": OTHER})
    return dict(cur.fetchall())


def active_users(cur: cursor, tz: ZoneInfo) -> dict[str, int]:
    """Return the users of today, 7 and 30 days; empty while today has no daily statistics."""
    cur.execute(SQL["metrics_outbox_active_users"], {"zone": tz.key})
    row = cur.fetchone()
    return dict(zip(PERIODS, row, strict=True)) if row else {}


def rejected_rows(cur: cursor) -> int:
    """Return the number of rejected rows of adopted tables."""
    cur.execute(SQL["metrics_outbox_rejected_rows"])
    (count,) = cur.fetchone() or (0,)
    return int(count)
