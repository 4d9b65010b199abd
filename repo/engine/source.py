"""The interface of sources, which aggregate events, and the choice between them."""

from typing import Protocol, TypeVar

from common.checkpoint import Checkpoint
from repo.engine.cardinality import Aggregates
from repo.engine.plan import Aggregation, Plan

P = TypeVar("P", bound=Plan)


class Evaluation(Protocol):
    """Computes partial aggregates from data that was read."""

    @property
    def size(self) -> int:
        """The bytes that it holds, about."""
        ...

    def __call__(self, checkpoint: Checkpoint) -> Aggregates: ...


class Source(Protocol[P]):
    """Aggregates events that have occurred. All sources give equal results."""

    @property
    def kind(self) -> str:
        """`rollups`, `columns` or `events`."""
        ...

    @property
    def cache_version(self) -> str | None:
        """The cache version of the query's months; None if late events are not tracked."""
        ...

    def supports(self, aggregation: Aggregation) -> bool:
        """Return whether this source can aggregate so."""
        ...

    def plan(self, aggregation: Aggregation, *, explain: bool = False) -> P:
        """Return how to aggregate, without reading it.

        With `explain` the plan has its exact cost and the length of the tail.
        """
        ...

    def read(self, plan: P) -> Aggregates | Evaluation:
        """Read what a plan of this source needs, in the same snapshot.

        Return the partial aggregates, or an evaluation that computes them without the snapshot.

        Sets of users of several plans can be combined if their source is the rollups. The source on
        events numbers the users of each plan anew.
        """
        ...
