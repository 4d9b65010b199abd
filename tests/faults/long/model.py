"""What may be answered, from what was acknowledged: plain counting, and no SQL.

An answer is of the moment `computed_at`. What was acknowledged before it must be counted, and
nothing may be that was not sent before the answer came; of somebody who was erased, nothing.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field


class Growing:
    """A number that only grows, and what it was at any moment before."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._totals: list[int] = [0]

    def add(self, count: int) -> None:
        self._times.append(time.time())
        self._totals.append(self._totals[-1] + count)

    def before(self, moment: float) -> int:
        return self._totals[bisect_left(self._times, moment)]

    @property
    def now(self) -> int:
        return self._totals[-1]


@dataclass
class Victim:
    """Somebody whose events are all there when erasing begins."""

    user: str
    events: int
    began: float = float("inf")
    ended: float = float("inf")


@dataclass(frozen=True)
class Bounds:
    least: int
    most: int

    def hold(self, value: int) -> bool:
        return self.least <= value <= self.most


@dataclass
class Model:
    """Events of the run itself, all of them of now."""

    sent: Growing = field(default_factory=Growing)
    acknowledged: Growing = field(default_factory=Growing)
    sent_users: Growing = field(default_factory=Growing)
    acknowledged_users: Growing = field(default_factory=Growing)
    of_name: dict[str, tuple[Growing, Growing]] = field(
        default_factory=lambda: defaultdict(lambda: (Growing(), Growing()))
    )
    ids: dict[str, tuple[set[str], dict[str, float]]] = field(
        default_factory=lambda: defaultdict(lambda: (set(), {}))
    )
    """Of a user: what was sent, and when each was acknowledged."""
    users_sent: list[str] = field(default_factory=list)
    victims: list[Victim] = field(default_factory=list)

    def send(self, user: str, name: str, ids: list[str]) -> None:
        """Before the first byte of it is sent. A user's events are all sent at once."""
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

    def events(self, asked: float, computed: float) -> Bounds:
        """All events: of an answer as of `computed` that was asked for at `asked`."""
        least, most = self._of_victims(asked)
        return Bounds(self.acknowledged.before(computed) - most[0], self.sent.now - least[0])

    def users(self, asked: float, computed: float) -> Bounds:
        least, most = self._of_victims(asked)
        return Bounds(
            self.acknowledged_users.before(computed) - most[1], self.sent_users.now - least[1]
        )

    def named(self, name: str, computed: float) -> Bounds:
        """Events of a name that no victim has."""
        sent, acknowledged = self.of_name[name]
        return Bounds(acknowledged.before(computed), sent.now)

    def is_history(self, user: str, found: set[str], asked: float, computed: float) -> bool:
        sent, acknowledged = self.ids[user]
        victim = next((each for each in self.victims if each.user == user), None)
        if victim and victim.ended < asked:
            return not found
        if victim and victim.began < time.time():
            return found in (set(), sent)
        must = {event_id for event_id, told in acknowledged.items() if told < computed}
        return must <= found <= sent

    def _of_victims(self, asked: float) -> tuple[tuple[int, int], tuple[int, int]]:
        """(events, users) that are gone for certain, and that may be."""
        now = time.time()
        gone = [victim.events for victim in self.victims if victim.ended < asked]
        going = [victim.events for victim in self.victims if victim.began < now]
        return (sum(gone), len(gone)), (sum(going), len(going))
