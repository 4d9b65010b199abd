"""Count the events, users and values of all properties, in one snapshot, and store the result.

One property is counted after the other, so that the memory does not grow with their number.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime

from psycopg2.extensions import connection

from common.decorators import translate_errors
from common.errors import ColumnsBuilding
from config.database import Cursor
from repo.catalogue import statistics_table
from repo.catalogue.name_counter import NameCount, NameCounter
from repo.catalogue.property_counter import PropertyCounter, ValueUserCounter
from repo.catalogue.property_scans import PropertyScans
from repo.catalogue.statistics import EVENT_NAMES, PropertyStatistics, encode_values
from repo.catalogue.statistics_table import CatalogueCount, EncodedStatistics, StoredCounts
from repo.catalogue.user_pairs import UserPairs
from repo.columns.cache import ColumnCache
from repo.columns.chunk_table import Path
from repo.engine.column_plan import ColumnPlan
from repo.engine.watermark import Watermark, read_watermark
from repo.rollups.fold import snapshot_locked

SQL = statistics_table.SQL

MIN_EVENTS = 20_000
"""The number of events from which statistics are stored; fewer are counted by each question."""
COUNT_EVERY_S = 300
_MAX_BYTES = 2**25
"""The most bytes of the stored values of all properties; each question counts the others itself."""
_MAX_PAIRS = 2**22
"""The most pairs of values and users that are in memory at one time, which take 32 MB."""
_RIGHTS_MESSAGE = "this role may not count properties"


def count_if_due(conn: connection) -> int:
    """Count all properties, unless that was done in the last minutes; return their number.

    `conn` is in autocommit. Raises: DatabaseUnavailable.
    """
    with translate_errors(_RIGHTS_MESSAGE):
        with conn.cursor() as cur:
            stored = statistics_table.read_counts(cur, COUNT_EVERY_S)
        if stored and not stored.is_old:
            return 0
        return _count_and_store(conn, stored)


def read_age(conn: connection) -> float:
    """Return the seconds since properties were counted; 0 if they are not, or are counted anew.

    Raises: DatabaseUnavailable.
    """
    with translate_errors(_RIGHTS_MESSAGE), conn.cursor() as cur:
        cur.execute(SQL["catalogue_age"])
        (age_s,) = cur.fetchone() or (0.0,)
        return float(age_s)


def _count_and_store(conn: connection, stored: StoredCounts | None) -> int:
    with _snapshot(conn) as (cur, snapshot):
        if (watermark := read_watermark(cur)) is None:
            return 0
        cur.now = max(cur.now, watermark.folded_range.end)
        counter = _Counter(cur, watermark)
        if not counter.is_large:
            return 0
        is_changed = stored is None or counter.has_changed_since(stored)
        count = counter.count(snapshot) if is_changed else None
    if not is_changed:
        with conn.cursor() as cur:
            statistics_table.touch(cur, counter.now, counter.columns)
    if count is None:
        return 0
    with snapshot_locked(conn, with_columns=True) as cur:
        return len(count.properties) if statistics_table.store(cur, count) else 0


@contextmanager
def _snapshot(conn: connection) -> Iterator[tuple[Cursor, str]]:
    """Open a read-only snapshot, and return it as text with its cursor."""
    with conn.cursor(cursor_factory=Cursor) as cur:
        cur.execute(SQL["catalogue_begin"])
        try:
            cur.execute(SQL["catalogue_now"])
            cur.now, snapshot = cur.fetchone() or ()
            yield cur, snapshot
        finally:
            if not conn.closed:
                cur.execute("rollback")


class _Counter:
    """Counts all properties in one snapshot."""

    def __init__(self, cur: Cursor, watermark: Watermark) -> None:
        self._cur = cur
        self._scans = PropertyScans(cur, watermark, "properties", ColumnCache(0, is_measured=False))
        self._plan = self._scans.plan

    @property
    def now(self) -> datetime:
        return self._cur.now

    @property
    def columns(self) -> str:
        """The state of the columns, as text."""
        version = self._plan.state.version if self._plan.state else 0
        return f"{self._plan.generation}:{version}"

    @property
    def is_large(self) -> bool:
        """Whether there are so many events that questions need stored statistics."""
        return self._plan.row_count >= MIN_EVENTS

    def has_changed_since(self, stored: StoredCounts) -> bool:
        """Return whether there may be events that were not counted."""
        state = self._plan.state
        if state is None or state.has_tail or self.columns != stored.columns:
            return True
        # Events that were in the future are in chunks already.
        return self._scans.has_events(stored.counted_at)

    def count(self, snapshot: str) -> CatalogueCount | None:
        """Count all properties; None while columns are built."""
        with suppress(ColumnsBuilding):
            return CatalogueCount(
                counted_at=self.now,
                snapshot=snapshot,
                columns=self.columns,
                baseline=statistics_table.read_baseline(self._cur),
                generation=self._plan.generation,
                registered=statistics_table.read_registered(self._cur, self._plan.generation),
                properties=list(self._count_all()),
                names=self._count_names(),
            )
        return None

    def _count_all(self) -> Iterator[EncodedStatistics]:
        left = _MAX_BYTES
        for path in self._scans.paths():
            if statistics := self._count(path):
                values = statistics.values
                data = None if values is None else encode_values(values)
                if data is not None and len(data) > left:
                    data = None
                left -= len(data or b"")
                yield EncodedStatistics(replace(statistics, values=None), data)

    def _count(self, path: Path) -> PropertyStatistics | None:
        """Return the statistics of a property; None if no event has it."""
        pairs = UserPairs(_MAX_PAIRS)
        counter = PropertyCounter(path, pairs)
        self._scans.read(self._plan_of(path), counter)(lambda: None)
        if not counter.events:
            return None
        if counter.has_too_many:
            return counter.statistics(None)
        return counter.statistics(self._users(counter, pairs))

    def _count_names(self) -> list[NameCount]:
        """Return the counts of all event names; none if these are too many, or were dropped."""
        plan, pairs = self._scans.plan_of_names(), UserPairs(_MAX_PAIRS)
        if plan.needs_dropped:
            return []
        counter = NameCounter(pairs)
        evaluation = self._scans.read(plan, counter)
        names = self._scans.names(evaluation)
        evaluation(lambda: None)
        if counter.counter.has_too_many:
            return []
        return counter.rows(self._users(counter.counter, pairs), names)

    def _users(self, counter: PropertyCounter, pairs: UserPairs) -> Counter[int]:
        """Return the number of users by value; those that are not in the pairs need more scans."""
        parts, numbers = pairs.parts, dict(counter.values)
        users = Counter(pairs.counts())
        for part in range(1, parts):
            others = UserPairs(sys.maxsize, part, parts)
            collector = ValueUserCounter(counter.path, numbers, others)
            self._scans.read(self._plan_of(counter.path), collector)(lambda: None)
            users.update(others.counts())
        return users

    def _plan_of(self, path: Path) -> ColumnPlan:
        is_name = path == EVENT_NAMES
        return self._scans.plan_of_names() if is_name else self._scans.plan_of([path])
