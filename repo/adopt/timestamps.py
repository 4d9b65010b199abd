"""SQL expressions for the time of an event, from epochs and local times.

Local times are converted by the rules of the pinned tzdata package, since PostgreSQL's may differ.
"""

from collections.abc import Callable, Sequence

from psycopg2.sql import SQL as Text
from psycopg2.sql import Composable, Composed
from psycopg2.sql import Literal as Value

from repo.adopt.catalog import SQL
from utils.time.epochs import END_SECOND, FIRST_SECOND, PER_SECOND, Epoch
from utils.time.local_times import local_rules
from utils.time.zones import zone

_UNITS: dict[Epoch, str] = {"s": "1 second", "ms": "1 millisecond", "us": "1 microsecond"}

Instant = Callable[[Composable], Composable]
"""Returns the expression of the instant of a local time."""


def epoch_instant(value: Composable, epoch: Epoch) -> Composed:
    """Return an expression for the instant of an epoch; null outside the years 2000 to 2099."""
    # Far values would make the conversion fail, and with it the transaction of the platform.
    per_second = PER_SECOND[epoch]
    # PostgreSQL has no nanoseconds. A float holds as many microseconds exactly.
    number = Text("({} / 1000)").format(value) if epoch == "ns" else value
    return Text(
        "case when {0} >= {1} and {0} < {2} "
        "then 'epoch'::timestamptz + {3}::float8 * {4}::interval end"
    ).format(
        value,
        Value(FIRST_SECOND * per_second),
        Value(END_SECOND * per_second),
        number,
        Value(_UNITS.get(epoch, _UNITS["us"])),
    )


def local_instant(value: Composable, instant: Instant) -> Composed:
    """Return an expression for the instant of a local time; null far from the years of events."""
    return Text("case when {0} then {1} end").format(
        is_in_range(value), instant(Text("{}::timestamp").format(value))
    )


def is_in_range(value: Composable) -> Composed:
    """Return a condition that a local time is within or near the years of events."""
    return Text("{0} >= '1999-12-01' and {0} < '2100-02-01'").format(value)


def by_rules(tz: str) -> Instant:
    """Return a conversion whose expressions contain the rules of a zone. Raises: KeyError."""
    return lambda local: Text(SQL["adopt_instant"]).format(local=local, **rules_of(tz))


def rules_of(tz: str) -> dict[str, Composable]:
    """Return the rules of a zone as SQL arrays, `times` and `offsets`. Raises: KeyError."""
    # As array literals, since the text becomes a part of the trigger's function.
    rules = local_rules(zone(tz))
    seconds = [f"{gap.total_seconds():g} seconds" for gap in (rules.first, *rules.offsets)]
    return {
        "times": _array([time.isoformat() for time in rules.times], "timestamp"),
        "offsets": _array(seconds, "interval"),
    }


def _array(texts: Sequence[str], kind: str) -> Composed:
    return Text("{}::{}[]").format(Value("{" + ",".join(texts) + "}"), Text(kind))
