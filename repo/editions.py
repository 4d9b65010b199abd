"""What has changed the past: late events, month by month, and erasures."""

from dataclasses import dataclass, replace
from datetime import datetime

from common.decorators import with_cursor
from config.database import Connection, Cursor
from repo.identity import has_identity, read_database_state
from repo.rollups.state import Months, read_state
from repo.statements import statements

SQL = statements("editions")


def edition(lineage: str, version: int) -> str:
    """What is part of the keys of answers."""
    return f"{lineage}.{version}"


@dataclass(frozen=True, slots=True)
class Editions:
    """The months that late events have changed."""

    lineage: str
    memory_key: str
    newest: int
    versions: dict[int, int]

    def of(self, months: Months) -> str:
        first, last = months
        changed = (v for month, v in self.versions.items() if first <= month <= last)
        return edition(self.lineage, max(changed, default=0))


@dataclass(frozen=True, slots=True)
class Past:
    """What is to be known of it."""

    identity: str
    """Of the database: the same for its replicas alone."""
    age_s: float
    """How old it is at least: how far a replica is behind."""
    erasure: str
    """The last one, and the horizon: whatever takes events away; before the first, nothing."""
    editions: Editions | None = None
    """None where late events are not counted: without rollups, and while very many are folded."""
    waits_since: datetime | None = None
    """The last fold, if events have come in that it did not take."""


class EditionsRepo:
    """Asked again and again by each worker."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_past(self, cur: Cursor, known: Editions | None) -> Past | None:
        """What is so now, None without a schema; `known` is what was known before."""
        # It is asked very often: a connection that was identified when it was opened has a schema.
        if self.connection.identity is None and not has_identity(cur):
            return None
        identity, erasure, now = read_database_state(cur)
        age_s = max((now - cur.as_of).total_seconds(), 0.0)
        state = read_state(cur)
        if state is None:
            return Past(identity, age_s, erasure)
        waits_since = state.folded.end if state.waiting else None
        if state.is_sweeping:
            return Past(identity, age_s, erasure, None, waits_since)
        if known is None or known.memory_key != state.memory_key:
            known = Editions(state.lineage, state.memory_key, -1, {})
        return Past(identity, age_s, erasure, _newer(cur, known), waits_since)


def _newer(cur: Cursor, known: Editions) -> Editions:
    cur.execute(SQL["editions_since"], {"since": known.newest})
    if changed := dict(cur.fetchall()):
        versions = {**known.versions, **changed}
        return replace(known, newest=max(changed.values()), versions=versions)
    return known
