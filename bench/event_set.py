"""The event set of the benchmark, generated day by day: the same for the same number of events.

500,000 users of whom a few cause most events, 40 names, 90 days with quiet nights and weekends, 3 %
of the events without a user, five properties. The last day is fixed, so the set is the same on
every day.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.demo_data import NAMES

END = datetime(2026, 11, 22, tzinfo=UTC)
DAYS = 90
START = END - timedelta(days=DAYS)
USERS = 500_000
COUNTRIES = ("DE", "US", "FR", "GB", "IN", "BR", "JP", "NL", "PL", "ES")
PLATFORMS = ("web", "ios", "android")
PLANS = ("free", "pro", "team")
PATHS = tuple(f"/p/{number}" for number in range(2_000))
VERSION = 2
"""Grows when the generated events change, so that sets of earlier versions are built again."""

_HOURS = 24
_NOBODY = 0.03
_GROWTH = 0.5
"""The growth from the first to the last day, as a share."""
_WEEKEND = 0.6
_SKEW = 0.6
"""Exponent of Zipf's law. 0: all users are equal; 1: the most active causes 1/14 of all events."""
_WITH_AMOUNT = 0.1
_MEDIAN_AMOUNT = 40
_MAX_AMOUNT = 500
_HYPHENS = (8, 13, 18, 23)
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Platform:
    """Users, names and parts of properties, with the cumulative probabilities of some."""

    users: pa.Array
    user_reach: Floats
    names: pa.Array
    name_reach: Floats
    traits: pa.Array
    """The beginnings of properties, which are the same in all events of a user."""
    paths: pa.Array
    path_reach: Floats
    amounts: pa.Array
    """The ends of properties: at 0 without an amount, then one for each number of cents."""


@cache
def platform() -> Platform:
    """The first of `users` is the empty user id of events without a user."""
    people = np.random.default_rng(0).permutation(USERS) + 1
    traits = [
        f'{{"country": "{country}", "platform": "{kind}", "plan": "{plan}", "path": "'
        for country in COUNTRIES
        for kind in PLATFORMS
        for plan in PLANS
    ]
    cents = range(1, _MAX_AMOUNT * 100 + 1)
    return Platform(
        pa.array(["", *(f"user_{number:06}" for number in people)]),
        _reach(_zipf(USERS, _SKEW)),
        pa.array(NAMES),
        _reach(_zipf(len(NAMES), 1.0)),
        pa.array(traits),
        pa.array(PATHS),
        _reach(_zipf(len(PATHS), 1.0)),
        pa.array(['"}', *(f'", "amount": {each // 100}.{each % 100:02}}}' for each in cents)]),
    )


def days_of_events(count: int, seed: int = 1) -> Iterator[pa.Table]:
    """Yield the events of each day as a table, in order of time."""
    random = np.random.default_rng(seed)
    population = platform()
    hours = random.multinomial(count, _rhythm()).reshape(DAYS, _HOURS)
    for day, counts in enumerate(hours):
        yield _table(random, population, START + timedelta(days=day), counts)


def sample(count: int, seed: int) -> pa.Table:
    """Events of the same distribution as one table; another seed gives other events."""
    return pa.concat_tables(days_of_events(count, seed))


def with_times(events: pa.Table, times: Sequence[datetime]) -> pa.Table:
    """The events at other times."""
    position = events.schema.get_field_index("occurred_at")
    occurred_at = pa.array(times, pa.timestamp("us", "UTC"))
    return events.set_column(position, "occurred_at", occurred_at)


def user_at(rank: int) -> str:
    """The id of the user at this rank by activity, from 0."""
    return str(platform().users[rank + 1])


def _table(
    random: np.random.Generator, population: Platform, day: datetime, counts: Integers
) -> Any:
    count = int(counts.sum())
    users = np.searchsorted(population.user_reach, random.random(count)) + 1
    users[random.random(count) < _NOBODY] = 0
    names = np.searchsorted(population.name_reach, random.random(count))
    return pa.table(
        {
            "event_id": _ids(random, count),
            "user_id": population.users.take(pa.array(users)),
            "event_name": population.names.take(pa.array(names)),
            "occurred_at": _timestamps(random, day, counts),
            "properties": _properties(random, population, users),
        }
    )


def _properties(random: np.random.Generator, population: Platform, users: Integers) -> Any:
    """Properties as JSON: three that depend on the user, a path, and sometimes an amount."""
    count = len(users)
    paths = np.searchsorted(population.path_reach, random.random(count))
    amounts = random.lognormal(np.log(_MEDIAN_AMOUNT), 1, count).clip(0.01, _MAX_AMOUNT)
    cents = np.where(random.random(count) < _WITH_AMOUNT, (amounts * 100).astype(np.int64), 0)
    return pc.binary_join_element_wise(
        population.traits.take(pa.array(users % len(population.traits))),
        population.paths.take(pa.array(paths)),
        population.amounts.take(pa.array(cents)),
        "",
    )


def _timestamps(random: np.random.Generator, day: datetime, counts: Integers) -> Any:
    hours = np.repeat(np.arange(_HOURS), counts)
    within = np.sort((hours + random.random(len(hours))) * 3.6e9).astype(np.int64)
    return pa.array(int(day.timestamp()) * 1_000_000 + within, pa.timestamp("us", "UTC"))


def _ids(random: np.random.Generator, count: int) -> Any:
    """UUIDs of version 4 as text."""
    raw = np.frombuffer(random.bytes(count * 16), np.uint8).reshape(count, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = np.stack((_HEX[raw >> 4], _HEX[raw & 0x0F]), axis=2).reshape(count, 32)
    positions = [place for place in range(36) if place not in _HYPHENS]
    text = np.full((count, 36), ord("-"), np.uint8)
    text[:, positions] = digits
    ends = np.arange(count + 1, dtype=np.int32) * 36
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(text))


def _rhythm() -> Floats:
    """The share of all events in each hour of the 90 days; they sum to 1."""
    hour = np.arange(DAYS * _HOURS)
    daily = 1 + 0.85 * np.sin((hour % _HOURS - 8) / _HOURS * 2 * np.pi)
    weekday = (START.weekday() + hour // _HOURS) % 7
    weekly = np.where(weekday >= 5, _WEEKEND, 1.0)
    weights = daily * weekly * (1 + _GROWTH * hour / len(hour))
    return np.asarray(weights / weights.sum())


def _zipf(count: int, skew: float) -> Floats:
    return np.arange(1, count + 1, dtype=np.float64) ** -skew


def _reach(weights: Floats) -> Floats:
    """The cumulative distribution of the weights, from 0 to 1."""
    edges = np.cumsum(weights)
    return np.asarray(edges / edges[-1])
