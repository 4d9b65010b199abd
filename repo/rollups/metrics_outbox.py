"""What the folder tells in the metrics: events that came in, each once, and numbers that it keeps.

All work in transactions of the folder.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from psycopg2.extensions import cursor

from repo.statements import statements

SQL = statements("metrics_outbox")

OTHER = "other"
"""All names that are not told by themselves."""
PERIODS = ("today", "7d", "30d")


def add(cur: cursor, names: Mapping[int, int]) -> None:
    """Events of a fold, by name_id, to be told soon by a folder whose metrics somebody sees."""
    params = {"name_ids": list(names), "events": list(names.values())}
    cur.execute(SQL["metrics_outbox_add"], params)


def add_missed(cur: cursor, generation: int, until: datetime) -> None:
    """The same for those that a generation took and the one whose place it takes did not."""
    cur.execute(SQL["metrics_outbox_add_missed"], {"generation": generation, "until": until})


def forget_foreign(cur: cursor) -> None:
    """After a restore: what is there was told where it came from."""
    cur.execute(SQL["metrics_outbox_delete_foreign"])


def take_counts(cur: cursor, names: Sequence[str]) -> dict[str, int]:
    """Events that are not told yet, by name for these, and of all others together."""
    cur.execute(SQL["metrics_outbox_pop"], {"names": list(names), "other": OTHER})
    return dict(cur.fetchall())


def active_users(cur: cursor, tz: ZoneInfo) -> dict[str, int]:
    """Users of today, of 7 and of 30 days; nothing while today is not counted."""
    cur.execute(SQL["metrics_outbox_active_users"], {"zone": tz.key})
    row = cur.fetchone()
    return dict(zip(PERIODS, row, strict=True)) if row else {}


def rejected_rows(cur: cursor) -> int:
    """Rows of adopted tables that cannot be events."""
    cur.execute(SQL["metrics_outbox_rejected_rows"])
    (count,) = cur.fetchone() or (0,)
    return int(count)
