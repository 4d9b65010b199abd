"""The model of the long run: which answers are right, by plain counting without SQL.

An answer is as of `computed_at`. It must count all events that were acknowledged before, no event
that was not sent before the answer arrived, and none of an erased user.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field


class GrowingTotal:
    """A number that only grows, with its value at any earlier time."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._totals: list[int] = [0]

    def add(self, count: int) -> None:
        self._times.append(time.time())
        self._totals.append(self._totals[-1] + count)

    def before(self, timestamp: float) -> int:
        return self._totals[bisect_left(self._times, timestamp)]

    @property
    def now(self) -> int:
        return self._totals[-1]


@dataclass
class Victim:
    """A user to erase, whose events are all stored before the erasure begins."""

    user: str
    events: int
    began: float = float("inf")
    ended: float = float("inf")


@dataclass(frozen=True)
class Bounds:
    minimum: int
    maximum: int

    def contain(self, value: int) -> bool:
        return self.minimum <= value <= self.maximum


@dataclass
class Model:
    """The events sent by the run, all with the current time."""

    sent: GrowingTotal = field(default_factory=GrowingTotal)
    acknowledged: GrowingTotal = field(default_factory=GrowingTotal)
    sent_users: GrowingTotal = field(default_factory=GrowingTotal)
    acknowledged_users: GrowingTotal = field(default_factory=GrowingTotal)
    of_name: dict[str, tuple[GrowingTotal, GrowingTotal]] = field(
        default_factory=lambda: defaultdict(lambda: (GrowingTotal(), GrowingTotal()))
    )
    ids: dict[str, tuple[set[str], dict[str, float]]] = field(
        default_factory=lambda: defaultdict(lambda: (set(), {}))
    )
    """For each user, the ids sent, and when each was acknowledged."""
    users_sent: list[str] = field(default_factory=list)
    victims: list[Victim] = field(default_factory=list)

    def send(self, user: str, name: str, ids: list[str]) -> None:
        """Record events before their first byte is sent. All events of a user are sent at once."""
        self.sent.add(len(ids))
        self.sent_users.add(1)
        self.of_name[name][0].add(len(ids))
        self.ids[user][0].update(ids)
        self.users_sent.append(user)

    def acknowledge(self, user: str, name: str, ids: list[str]) -> None:
        self.acknowledged.add(len(ids))
        self.acknowledged_users.add(1)
        self.of_name[name][1].add(len(ids))
        self.ids[user][1].update(dict.fromkeys(ids, time.time()))

    def events(self, asked_at: float, computed_at: float) -> Bounds:
        """The bounds of all events, for an answer with these times of request and computation."""
        certain, possible = self._erased_counts(asked_at)
        return Bounds(
            self.acknowledged.before(computed_at) - possible[0], self.sent.now - certain[0]
        )

    def users(self, asked_at: float, computed_at: float) -> Bounds:
        certain, possible = self._erased_counts(asked_at)
        return Bounds(
            self.acknowledged_users.before(computed_at) - possible[1],
            self.sent_users.now - certain[1],
        )

    def named(self, name: str, computed_at: float) -> Bounds:
        """The bounds of the events with a name that no victim has."""
        sent, acknowledged = self.of_name[name]
        return Bounds(acknowledged.before(computed_at), sent.now)

    def is_history(
        self, user: str, event_ids: set[str], asked_at: float, computed_at: float
    ) -> bool:
        sent, acknowledged = self.ids[user]
        victim = next((each for each in self.victims if each.user == user), None)
        if victim and victim.ended < asked_at:
            return not event_ids
        if victim and victim.began < time.time():
            return event_ids in (set(), sent)
        required = {
            event_id
            for event_id, acknowledged_at in acknowledged.items()
            if acknowledged_at < computed_at
        }
        return required <= event_ids <= sent

    def _erased_counts(self, asked_at: float) -> tuple[tuple[int, int], tuple[int, int]]:
        """(events, users) that are certainly erased, and that may be."""
        now = time.time()
        gone = [victim.events for victim in self.victims if victim.ended < asked_at]
        going = [victim.events for victim in self.victims if victim.began < now]
        return (sum(gone), len(gone)), (sum(going), len(going))
