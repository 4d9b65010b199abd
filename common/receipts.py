"""Receipts of erasures."""

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of an erasure. It names no user, but its salt proves whom it is for."""

    erasure_id: str
    erased_at: datetime
    salt: str
    """SHA-256 of the salt and the user's id is the `proof` in the table `erasures`."""
    events: int
    slots: int
    """Slots whose counts were changed."""
    spans: int
    """Sealed hours, days and months that were changed."""
    days: int
    """Days whose daily statistics were recomputed."""
    first_month: date | None
    """The first day of the UTC month of the first event; null if there was no event."""
    last_month: date | None
    """The first day of the UTC month of the last event; null if there was no event."""
    suppressed: bool
    """Whether events of the user that arrive from now on are left out."""
    unknown_before: datetime | None
    """The horizon: earlier events were dropped before the erasure, so counts of events still
    include those of the user. Counts of users do not."""
    columns_pending: bool
    """Whether columns may still hold events of the user. No answer reads them, and the rollup
    worker removes them within seconds."""
    may_return_from: tuple[str, ...] = ()
    """Adopted tables with rows of the user, which belong to the platform: the next run of `adopt`
    makes events of them again, unless the user is suppressed."""
    cache_cleared: bool = False
    """Whether Redis holds no answer about the user any more."""
