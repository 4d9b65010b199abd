"""The registry of stores, over which the rollup writer, erasure and retention iterate."""

from collections.abc import Iterator, Sequence
from itertools import chain
from zoneinfo import ZoneInfo

from psycopg2.extensions import cursor

from repo.catalogue.store import CatalogueStore
from repo.columns.store import DEFAULT_MAX_PATHS, ColumnStore
from repo.rollups.daily_stats_store import DailyStatsStore
from repo.rollups.slot_store import SlotStore
from repo.rollups.span_store import SpanStore
from repo.rollups.store import Store
from repo.statements import compose, statements

SQL = statements("fold")

FROM_EVENTS: Sequence[type[Store]] = (SlotStore, SpanStore, ColumnStore)
"""Stores of events, for each generation: the rollups and the columns."""
FROM_ROLLUPS: Sequence[type[Store]] = (DailyStatsStore, CatalogueStore)
"""Stores of what queries on the current rollups and columns return."""


class Stores:
    """All stores, with what one process remembers about them."""

    def __init__(self, zones: Sequence[ZoneInfo] = (), max_paths: int = DEFAULT_MAX_PATHS) -> None:
        """`zones` are the declared time zones; only writing events needs them and `max_paths`."""
        self.from_events = [store(zones) for store in FROM_EVENTS]
        self.from_rollups = [store(zones) for store in FROM_ROLLUPS]
        self.columns.max_paths = max_paths

    def __iter__(self) -> Iterator[Store]:
        return chain(self.from_events, self.from_rollups)

    @property
    def daily_stats(self) -> DailyStatsStore:
        (store,) = (store for store in self if isinstance(store, DailyStatsStore))
        return store

    @property
    def columns(self) -> ColumnStore:
        (store,) = (store for store in self if isinstance(store, ColumnStore))
        return store


def delete_generations(cur: cursor, generations: Sequence[int]) -> None:
    """Delete the rows of generations from the tables of stores, and their future events."""
    if not generations:
        return
    stores = (store for store in FROM_EVENTS if not store.deletes_generations)
    tables = [*chain.from_iterable(store.tables for store in stores), "future_events"]
    statement = " ".join(compose(SQL["fold_delete_rows"], table=table) for table in tables)
    cur.execute(statement, {"generations": list(generations)})
