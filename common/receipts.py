"""Receipts of erasures."""

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was erased. It names nobody: with the user's id, its salt proves for whom it is."""

    erasure_id: str
    erased_at: datetime
    salt: str
    """SHA-256 of it and the user's id is the `proof` that the table `erasures` keeps."""
    events: int
    slots: int
    """Quarters of an hour whose counts were changed."""
    spans: int
    """Sealed hours, days and months that were."""
    days: int
    """Days whose numbers for SQL readers were counted anew."""
    first_month: date | None
    """The first day of the month of UTC of the first event; null where there was none."""
    last_month: date | None
    """The same of the last event."""
    suppressed: bool
    """Whether events of the user that come in from now on are left out."""
    unknown_before: datetime | None
    """Events before this moment were dropped already: nobody knows how many were of the user, so
    counts of events keep them; counts of users do not."""
    may_return_from: tuple[str, ...] = ()
    """Adopted tables, whose rows are the platform's own: those of the user that are still there
    are events again when `adopt` is run the next time, unless the user is suppressed."""
    cache_cleared: bool = False
    """Whether no answer about the user is left in Redis."""
