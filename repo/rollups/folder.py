"""The folder: keeps the rollups up with the events."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from config.database import DatabaseUnavailable
from repo.rollups.fold import MOST, NOTHING_FOLDED, Progress, Snapshot, fold, locked, store
from repo.rollups.seal import AT_ONCE, due, over, seal
from repo.statements import statements
from utils.slots import Span

SQL = statements("fold")


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did."""

    events: int
    """Folded."""
    spans: int
    """Sealed."""
    is_more: bool
    """Whether there is more to do at once."""


class Folder:
    """Works in transactions of its own; several folders take turns."""

    def __init__(self, conn: connection, zones: Sequence[ZoneInfo], most: int = MOST) -> None:
        """`conn` must be in autocommit; `most` events are folded at a time."""
        self._conn = conn
        self._zones = zones
        self._most = most
        self._looked: dict[int, Span] = {}
        self._due: dict[int, list[Span]] = {}

    def catch_up(self) -> int:
        """Fold all that is committed, seal all that is over; tell how many events were folded."""
        events, is_more = 0, True
        while is_more:
            step = self.step()
            events, is_more = events + step.events, step.is_more
        return events

    def step(self) -> Step:
        """Do some of the work of each generation. Raises: DatabaseUnavailable."""
        with _translated():
            steps = [self._step(generation) for generation in self._generations()]
        return Step(
            sum(step.events for step in steps),
            sum(step.spans for step in steps),
            any(step.is_more for step in steps),
        )

    def _generations(self) -> list[int]:
        """Those of this cluster; where questions have none to ask, one is begun."""
        with self._conn.cursor() as cur:
            cur.execute(SQL["fold_generations"])
            if here := [generation for (generation,) in cur]:
                return here
            cur.execute(SQL["fold_begin"])
            return [generation for (generation,) in cur]

    def pending(self, most: int) -> int:
        """How many events are not folded, up to a limit, told without a lock.

        Raises: DatabaseUnavailable.
        """
        with _translated(), self._conn.cursor() as cur:
            cur.execute(SQL["fold_snapshot"])
            row = cur.fetchone()
            snapshot = Snapshot(row[0]) if row else NOTHING_FOLDED
            tail = {"xmax": snapshot.xmax, "xip": snapshot.xip, "limit": most}
            cur.execute(SQL["fold_count"], tail)
            (count,) = cur.fetchone() or (0,)
            return int(count)

    def rebuild(self) -> int:
        """Make all rollups anew, while questions go on; tell how many events were folded.

        Raises: DatabaseUnavailable.
        """
        with _translated(), self._conn.cursor() as cur:
            cur.execute(SQL["fold_begin"])
        return self.catch_up()

    def _step(self, generation: int) -> Step:
        try:
            return self._stepped(generation)
        except LookupError:  # another folder has finished one that takes its place
            return Step(0, 0, is_more=False)

    def _stepped(self, generation: int) -> Step:
        with locked(self._conn, generation) as (cur, progress):
            events = fold(cur, progress, self._most)
            spans = self._next_due(cur, progress)
            if spans:
                seal(cur, progress, spans)
            store(cur, progress)
            is_done = not spans and not progress.is_sweeping
            if is_done and not progress.is_current:
                _switch(cur, generation)
        return Step(events, len(spans), not is_done)

    def _next_due(self, cur: cursor, progress: Progress) -> list[Span]:
        """Looking for them takes long: it is done when time, or a sweep, has come further."""
        generation, whole = progress.generation, over(progress)
        if whole and not self._due.get(generation) and self._looked.get(generation) != whole:
            self._due[generation] = due(cur, generation, whole, self._zones)
            self._looked[generation] = whole
        spans = self._due.get(generation, [])
        self._due[generation] = spans[AT_ONCE:]
        return spans[:AT_ONCE]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except errors.UndefinedTable as exc:
        raise DatabaseUnavailable("the schema is missing: run `python main.py migrate`") from exc
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
        raise DatabaseUnavailable(f"PostgreSQL went away: {exc}".strip()) from exc


def _switch(cur: cursor, generation: int) -> None:
    """Questions ask this generation from now on; the others are forgotten."""
    for name in ("fold_switch", "fold_forget"):
        cur.execute(SQL[name], {"generation": generation})
