"""The interface of sources, which aggregate events, and the partial aggregates they return."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from repo.engine.cardinality import CardinalityCache, PartialAggregate, merge
from repo.engine.plan import Aggregation, Plan


@dataclass(frozen=True, slots=True)
class RangeAggregate:
    """The partial aggregates of one range."""

    named: Mapping[str, PartialAggregate]
    """By group, those with the most events in all ranges first; empty without groups."""
    others: PartialAggregate
    """Of all events in no named group."""


@dataclass(frozen=True, slots=True)
class Aggregates:
    """The partial aggregates of each range of an aggregation, in order."""

    ranges: list[RangeAggregate]
    cardinalities: CardinalityCache
    """Counts the distinct users of partial aggregates."""
    other_groups: int = 0
    """How many groups the others are."""

    @property
    def totals(self) -> list[PartialAggregate]:
        """The partial aggregate of each range, with all its groups together."""
        return [merge([*part.named.values(), part.others]) for part in self.ranges]


class Source(Protocol):
    """Aggregates events that have occurred. All sources give equal results."""

    @property
    def kind(self) -> str:
        """`rollups` or `events`."""
        ...

    @property
    def cache_version(self) -> str | None:
        """The cache version of the query's months; None if late events are not tracked."""
        ...

    def plan(self, aggregation: Aggregation, *, explain: bool = False) -> Plan | None:
        """Return how to aggregate, without reading it; None if this source cannot.

        With `explain` the plan has its exact cost and the length of the tail.
        """
        ...

    def run(self, plan: Plan) -> Aggregates:
        """Read the partial aggregates of a plan of this source, in the same snapshot."""
        ...


K = TypeVar("K", bound=Hashable)


def aggregates(
    partials: Sequence[Mapping[K, PartialAggregate]],
    named: Mapping[K, str],
    cardinalities: CardinalityCache,
) -> Aggregates:
    """Return partial aggregates by range and key as aggregates with these groups."""
    ranges = [
        RangeAggregate(
            {name: part[key] for key, name in named.items() if key in part},
            merge([aggregate for key, aggregate in part.items() if key not in named]),
        )
        for part in partials
    ]
    keys = {key for part in partials for key in part}
    return Aggregates(ranges, cardinalities, len(keys - named.keys()))
