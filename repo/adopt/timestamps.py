"""When a row occurred, in SQL. Local times are read by the rules of the pinned tzdata: those that
PostgreSQL has may be others.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from psycopg2.sql import SQL as Text
from psycopg2.sql import Composable, Composed
from psycopg2.sql import Literal as Value

from repo.adopt.tables import SQL
from utils.time.local_times import local_rules
from utils.time.zones import zone

Epoch = Literal["s", "ms", "us"]

PER_SECOND: dict[Epoch, int] = {"s": 1, "ms": 1000, "us": 1_000_000}
_UNITS: dict[Epoch, str] = {"s": "1 second", "ms": "1 millisecond", "us": "1 microsecond"}
_FROM, _UNTIL = 946_684_800, 4_102_444_800  # 2000 and 2100, in seconds since 1970

Instant = Callable[[Composable], Composable]
"""From a local time to the expression of its instant."""


def epoch_instant(value: Composable, epoch: Epoch) -> Composed:
    """Null where it is so far away that to convert it would fail."""
    per_second = PER_SECOND[epoch]
    return Text(
        "case when {0} >= {1} and {0} < {2} "
        "then 'epoch'::timestamptz + {0}::float8 * {3}::interval end"
    ).format(
        value,
        Value(_FROM * per_second),
        Value(_UNTIL * per_second),
        Value(_UNITS[epoch]),
    )


def local_instant(value: Composable, instant: Instant) -> Composed:
    """Null where it is so far away that to convert it would fail."""
    return Text("case when {0} then {1} end").format(
        is_in_range(value), instant(Text("{}::timestamp").format(value))
    )


def is_in_range(value: Composable) -> Composed:
    """Whether a local time is near the years in which events can be."""
    return Text("{0} >= '1999-12-01' and {0} < '2100-02-01'").format(value)


def by_rules(tz: str) -> Instant:
    """By the rules of a zone, which stand in the expression. Raises: KeyError."""
    return lambda local: Text(SQL["adopt_instant"]).format(local=local, **rules_of(tz))


def rules_of(tz: str) -> dict[str, Composable]:
    """The rules of a zone as arrays of SQL. Raises: KeyError."""
    rules = local_rules(zone(tz))
    seconds = [f"{gap.total_seconds():g} seconds" for gap in (rules.first, *rules.offsets)]
    return {
        "times": _array([time.isoformat() for time in rules.times], "timestamp"),
        "offsets": _array(seconds, "interval"),
    }


def _array(texts: Sequence[str], kind: str) -> Composed:
    return Text("{}::{}[]").format(Value("{" + ",".join(texts) + "}"), Text(kind))
