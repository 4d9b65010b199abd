"""Reductions: what a question aggregates, and how its answer is computed from that."""

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

from common.query import Query
from common.questions.answer import Meta
from repo.engine.cardinality import Aggregates
from repo.engine.plan import Aggregation
from utils.time.calendar import Range

Q = TypeVar("Q", bound=Query)
D = TypeVar("D")


REDUCTIONS: dict[type[Query], type["Reduction[Any, Any]"]] = {}
"""The reductions by the type of the query that they answer."""


class Reduction(ABC, Generic[Q, D]):
    """The computation of one answer, for a query with a fixed range and clock."""

    meta_type: ClassVar[type[Meta]] = Meta

    def __init_subclass__(cls, *, query: type[Query], **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        REDUCTIONS[query] = cls

    def __init__(self, query: Q, time_range: Range, now: datetime) -> None:
        self.query = query
        self.time_range = time_range
        self.now = now

    @abstractmethod
    def aggregation(self) -> Aggregation:
        """Return what to aggregate."""

    @abstractmethod
    def data(self, aggregates: Aggregates) -> D:
        """Return the data of the answer, from the aggregates of `aggregation`."""

    def extra_meta(self) -> dict[str, Any]:
        """Return the fields of the meta of this question alone."""
        return {}

    def _aggregation(self, ranges: list[Range], **options: Any) -> Aggregation:
        """Return an aggregation of the parts of ranges that have passed."""
        return Aggregation(
            question=self.query.name,
            ranges=[part.until(self.now) for part in ranges],
            zone=self.query.zone,
            event_names=self.query.event_names,
            where=self.query.where,
            **options,
        )
