"""The collector of the events that a search for chains needs."""

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from common.errors import TooExpensive
from common.filters import Value
from repo.columns.chunk_table import Path
from repo.columns.filter_evaluation import Mask
from repo.columns.tied_events import NO_TIES, Ties, distinct_ties, rows_of_ties
from repo.engine.ordinals import Ordinals
from repo.engine.scan import MatchingEvents
from repo.sequences.first_values import MAX_BYTES, FirstValues, joint_codes
from repo.sequences.ordered_events import OrderedEvents, Positions, by_session, in_order
from repo.sequences.step_labels import Labels, StepFilters, has_any

MAX_EVENTS = 10_000_000
"""Events that are collected, all of which are in memory, with 13 bytes and 4 for each property."""
_BATCH_EVENTS = 2_000_000  # ordered and searched at once, with about 60 bytes each
_SAMPLE = 64  # every so manieth event decides which users are in which batch


@dataclass(frozen=True, slots=True)
class _Part:
    """Events of a chunk."""

    user: Ordinals
    time: NDArray[np.int64]
    labels: Labels
    values: Sequence[NDArray[np.int32]]
    """The codes of the values of each property."""

    def __len__(self) -> int:
        return len(self.user)

    def select(self, which: Mask) -> "_Part":
        # Faster than to index each array by the mask.
        return self.take(np.flatnonzero(which))

    def take(self, rows: Positions) -> "_Part":
        """Return the events at rows."""
        values = [codes.take(rows) for codes in self.values]
        return _Part(self.user.take(rows), self.time.take(rows), self.labels.take(rows), values)

    def without(self, rows: Positions) -> "_Part":
        """Return the events but those at rows."""
        return self.take(np.delete(np.arange(len(self)), rows)) if len(rows) else self

    def pairs(self) -> list[tuple[int, int]]:
        """Return the time and the user of each event."""
        return list(zip(self.time.tolist(), self.user.tolist(), strict=True))

    def rows_of(self, pairs: Container[tuple[int, int]]) -> Positions:
        """Return the rows of events with one of these times and users."""
        return np.flatnonzero([pair in pairs for pair in self.pairs()])


@dataclass(frozen=True, slots=True)
class SessionRules:
    """The rules of a session; times are microseconds since 2000-01-01 UTC."""

    gap: int
    """A session ends after more than this without an event."""
    complete_until: int
    """All events before this time are known."""


@dataclass(slots=True, kw_only=True)
class StepCollector:
    """Collects events that match a step, or that may separate the events of a chain."""

    filters: StepFilters
    is_strict: bool = False
    """Whether events that match no step end chains."""
    sessions: SessionRules | None = None
    """None: chains lie within the events of a user."""
    entry_end: int
    """Entries are before this time, in microseconds since 2000-01-01 UTC."""
    same: Sequence[Path] = ()
    """The properties whose values must be equal within a chain."""
    by: Path | None = None
    """The property whose values have rows."""
    events_without_user: int = 0
    """Events before `entry_end` that match a step and have no user."""
    unordered_ties: Ties = NO_TIES
    """After `batches`: ties whose order is unknown, as chunks lack ids, and affects the chains."""
    _same: list[FirstValues] = field(init=False)
    _by: list[FirstValues] = field(init=False)
    _parts: list[_Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        max_bytes = MAX_BYTES // max(len(self.same) + (self.by is not None), 1)
        self._same = [FirstValues(path, max_bytes) for path in self.same]
        self._by = [FirstValues(self.by, max_bytes)] if self.by else []

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    @property
    def by_values(self) -> Sequence[Value]:
        """The values of `by`, by their codes."""
        return self._by[0].values

    def add(self, events: MatchingEvents) -> None:
        """Collect events of a chunk. Raises: TooExpensive."""
        self._parts.append(self._with_users(self._part(events)))
        if len(self) > MAX_EVENTS:
            raise TooExpensive("events of steps", len(self), MAX_EVENTS, "a shorter range")

    def batches(self) -> Iterator[OrderedEvents]:
        """Yield all events in order, those of some users after those of others."""
        parts = self._parts or [self._no_events()]
        unordered = [NO_TIES]
        for low, high in pairwise(self._user_bounds(parts)):
            events, ties = self._ordered([_between(part, low, high) for part in parts])
            unordered.append(ties)
            yield events
        self.unordered_ties = Ties(*map(np.concatenate, zip(*unordered, strict=True)))

    def add_in_order(self, events: MatchingEvents) -> None:
        """Replace the events of ties by the same events in order, as far as these are complete.

        Raises: TooExpensive.
        """
        new = self._part(events)
        ties = distinct_ties(new.time, new.user)
        rows = [rows_of_ties(part.time, part.user, ties) for part in self._parts]
        old = [part.take(each) for part, each in zip(self._parts, rows, strict=True)]
        counts = Counter(pair for part in old for pair in part.pairs())
        is_complete = {pair for pair, n in Counter(new.pairs()).items() if counts[pair] == n}
        new = new.take(new.rows_of(is_complete))
        for number, (part, each) in enumerate(zip(old, rows, strict=True)):
            replaced = each[part.rows_of(is_complete)]
            self._parts[number] = self._parts[number].without(replaced)
        self._parts.append(new)

    def _part(self, events: MatchingEvents) -> _Part:
        """Return the events of a chunk that the search needs, also those without a user."""
        labels = self.filters.labels(events)
        needs_all = self.is_strict or self.sessions
        rows = np.flatnonzero(events.mask if needs_all else labels != 0)
        return _Part(
            events.chunk.user[events.start : events.stop][rows],
            events.chunk.time[events.start : events.stop][rows],
            labels[rows],
            [each.codes(events, rows + events.start) for each in (*self._same, *self._by)],
        )

    def _no_events(self) -> _Part:
        none = np.zeros(0, np.int32)
        labels: Labels = none.astype(self.filters.bits.dtype)
        values = [none] * (len(self._same) + len(self._by))
        return _Part(none.astype(np.uint32), none.astype(np.int64), labels, values)

    def _user_bounds(self, parts: Sequence[_Part]) -> list[int]:
        """Return the ordinals at which batches of users begin, and the end of all."""
        batches = max(-(-len(self) // _BATCH_EVENTS), 1)
        sample = np.sort(np.concatenate([part.user[::_SAMPLE] for part in parts]))
        inner = sample[np.arange(1, batches) * len(sample) // batches]
        return [0, *np.unique(inner).tolist(), 2**32]

    def _ordered(self, parts: Sequence[_Part]) -> tuple[OrderedEvents, Ties]:
        """Return events in order, and the ties whose order is not known."""
        same = [np.concatenate([part.values[n] for part in parts]) for n in range(len(self._same))]
        events = OrderedEvents(
            owner=np.concatenate([part.user for part in parts]),
            time=np.concatenate([part.time for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            same=joint_codes(same) if same else None,
            by=np.concatenate([part.values[-1] for part in parts]) if self._by else None,
        )
        starts = np.cumsum([len(part) for part in parts])[:-1].tolist()
        ordered, ties = in_order(events, self.filters.bits, starts)
        return self._considered(ordered), ties

    def _considered(self, events: OrderedEvents) -> OrderedEvents:
        """Return events by user or by session, without those that chains ignore."""
        if self.sessions:
            events = by_session(events, self.sessions.gap, self.sessions.complete_until)
        if not (self.sessions or self.is_strict):
            return events
        bits = self.filters.bits
        considered = bits.considered(events.labels, with_others=self.is_strict)
        return events if considered.all() else events.select(np.flatnonzero(considered))

    def _with_users(self, part: _Part) -> _Part:
        """Return the events that have a user, and count the others."""
        has_user = part.user != 0
        if has_user.all():
            return part
        is_step = has_any(part.labels, self.filters.bits.all_steps)
        is_step &= part.time < self.entry_end
        self.events_without_user += int(np.count_nonzero(is_step & ~has_user))
        return part.select(has_user)


def _between(part: _Part, low: int, high: int) -> _Part:
    """Return the events of the users from `low` to before `high`."""
    if low == 0 and high == 2**32:
        return part
    is_between = part.user >= low
    is_between &= part.user < high
    return part.select(is_between)
