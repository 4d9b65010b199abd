"""What has changed the past: late events, month by month, and erasures."""

from dataclasses import dataclass

from common.decorators import with_cursor
from config.database import Connection, Cursor
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
    newest: int
    versions: dict[int, int]

    def of(self, months: Months) -> str:
        first, last = months
        changed = (v for month, v in self.versions.items() if first <= month <= last)
        return edition(self.lineage, max(changed, default=0))


@dataclass(frozen=True, slots=True)
class Past:
    """What is to be known of it."""

    erasure: str
    """The last one; before the first, nothing."""
    editions: Editions | None
    """None without rollups, and while events wait to be folded for so long that the folder must
    have stopped: then late events would change answers that are kept."""


class EditionsRepo:
    """Asked again and again by each worker."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_past(self, cur: Cursor, known: Editions | None) -> Past:
        """What is so now; `known` is what was known before."""
        cur.execute(SQL["editions_erasure"])
        (erasure,) = cur.fetchone() or ("",)
        return Past(erasure, _editions(cur, known))


def _editions(cur: Cursor, known: Editions | None) -> Editions | None:
    state = read_state(cur)
    if state is None or _is_behind(cur, state.tail):
        return None
    if known is None or known.lineage != state.lineage:
        known = Editions(state.lineage, -1, {})
    cur.execute(SQL["editions_since"], {"since": known.newest})
    if changed := dict(cur.fetchall()):
        newest = max(changed.values())
        return Editions(state.lineage, newest, {**known.versions, **changed})
    return known


def _is_behind(cur: Cursor, tail: dict[str, object]) -> bool:
    cur.execute(SQL["editions_behind"], tail)
    return cur.fetchone() == (True,)
