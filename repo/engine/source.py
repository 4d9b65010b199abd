"""The interface of sources, which aggregate events, and the choice between them."""

from collections.abc import Callable, Iterable
from typing import Protocol

from common.metrics import PLANS
from common.questions.answer import Checkpoint
from repo.engine.cardinality import Aggregates
from repo.engine.plan import Aggregation, Plan

Evaluation = Callable[[Checkpoint], Aggregates]
"""Computes partial aggregates from data that was read."""


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

    def read(self, plan: Plan) -> Aggregates | Evaluation:
        """Read what a plan of this source needs, in the same snapshot.

        Return the partial aggregates, or an evaluation that computes them without the snapshot.

        Sets of users of several plans can be combined if their source is the rollups. The source on
        events numbers the users of each plan anew.
        """
        ...


def choose(
    sources: Iterable[Source], aggregation: Aggregation, *, explain: bool
) -> tuple[Source, Plan]:
    """Return the source with the cheapest plan, and the plan."""
    plans = [(source, source.plan(aggregation, explain=explain)) for source in sources]
    able = [(source, plan) for source, plan in plans if plan is not None]
    source, plan = min(able, key=lambda candidate: candidate[1].weight)
    PLANS.labels(aggregation.question, source.kind).inc()
    return source, plan
