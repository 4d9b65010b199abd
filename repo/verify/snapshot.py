"""A snapshot of the database for `verify`, and the watermark of the rollups in it."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import psycopg2
from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import DISK_FULL_MESSAGE
from config.database_errors import DatabaseUnavailable, DiskFull
from config.invocation import invocation
from repo.statements import statements

SQL = statements("verify")

FIRST, AFTER = -(2**31), 2**31 - 1  # slots are integers of 4 bytes


class Unverifiable(Exception):
    """There are no rollups that can be verified; the message says why."""


class Span(NamedTuple):
    """A run of slots, start <= slot < end."""

    start: int
    end: int

    def from_epoch(self) -> "Span":
        """Return the part from 1970 on, since earlier slots may be beyond PostgreSQL's calendar."""
        return Span(max(self.start, 0), max(self.end, 0))

    def intersection(self, other: "Span") -> "Span":
        return Span(max(self.start, other.start), min(self.end, other.end))


class FoldState(NamedTuple):
    """The row of `fold_state` of the current generation."""

    generation: int
    is_of_this_cluster: bool
    snapshot: str
    sweeping_to: str
    swept_until: str
    swept_id: str
    folded_at: str
    horizon: int
    """The slot before which events were dropped, and cannot be recounted."""
    first_slot: int | None
    """The slot of the first event; None if there was none yet."""

    def params(self) -> dict[str, Any]:
        """Return parameters of statements that select the folded events."""
        return self._asdict()


@contextmanager
def snapshot(conn: connection) -> Iterator[tuple[cursor, FoldState]]:
    """Open a read-only snapshot; `conn` must be in autocommit.

    Raises: Unverifiable, DatabaseUnavailable.
    """
    try:
        with conn.cursor() as cur:
            cur.execute(SQL["verify_begin"])
            try:
                yield cur, _state(cur)
            finally:
                # The connection may be lost; the first error is the one to report.
                with suppress(psycopg2.InterfaceError, psycopg2.OperationalError):
                    cur.execute("rollback")
    # Not `translate_errors`: verification shares no code with what it verifies.
    except errors.UndefinedTable as exc:
        raise Unverifiable(f"the schema is missing: run `{invocation('migrate')}`") from exc
    except errors.DiskFull as exc:
        raise DiskFull(DISK_FULL_MESSAGE) from exc
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as exc:
        raise DatabaseUnavailable(f"the connection to PostgreSQL was lost: {exc}".strip()) from exc


def copy_out(cur: cursor, statement: str, params: Mapping[str, Any]) -> bytes:
    """Return the output of a `COPY ... TO STDOUT`."""
    buffer = io.BytesIO()
    cur.copy_expert(cur.mogrify(statement, params), buffer)
    return buffer.getvalue()


def _state(cur: cursor) -> FoldState:
    cur.execute(SQL["verify_state"])
    row = cur.fetchone()
    if row is None:
        raise Unverifiable(
            "there are no rollups yet: run `rollup --once`, or wait for the rollup worker"
        )
    state = FoldState(*row)
    if not state.is_of_this_cluster:
        raise Unverifiable(
            "the rollups were made in another cluster, whose transaction ids are not valid here: "
            "the rollup worker has to rebuild them first"
        )
    return state
