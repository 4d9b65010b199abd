"""How far users come in a funnel, in plain Python: all chains of each user are tried one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Literal, NamedTuple


@dataclass(frozen=True)
class StepEvent:
    """An event, by what a funnel sees of it."""

    event_id: int
    user: int
    time: int
    steps: frozenset[int]
    """The steps that it matches, from 0."""
    is_excluded: bool = False
    is_ignored: bool = False
    same: str | None = None
    """The value that must be equal within a chain; None if it is missing."""


@dataclass(frozen=True)
class Funnel:
    steps: int
    within: int
    entry_end: int
    now: int
    order: Literal["sequence", "strict", "any"] = "sequence"
    has_same: bool = False
    gap: int | None = None
    """The length of the pause after which a session ends; None if users are counted."""

    @property
    def open_from(self) -> int:
        return self.now - self.within


class Outcome(NamedTuple):
    """How far a user or session came."""

    furthest: int
    times: tuple[int, ...]
    """Of the events of the reported chain."""
    is_open: bool
    first_entry: int
    user: int = 1


def outcomes(events: Sequence[StepEvent], funnel: Funnel) -> list[Outcome]:
    """The outcomes of all users or sessions that enter, in order."""
    users = sorted({event.user for event in events})
    owners = [[event for event in events if event.user == user] for user in users]
    if funnel.gap is not None:
        owners = [session for owner in owners for session in sessions(owner, funnel.gap)]
    found = (outcome(in_order(owner, funnel), owner, funnel) for owner in owners)
    return [each for each in found if each]


def sessions(events: Sequence[StepEvent], gap: int) -> list[list[StepEvent]]:
    parts: list[list[StepEvent]] = []
    for event in sorted(events, key=lambda event: event.time):
        if parts and event.time - parts[-1][-1].time <= gap:
            parts[-1].append(event)
        else:
            parts.append([event])
    return parts


def in_order(events: Sequence[StepEvent], funnel: Funnel) -> list[StepEvent]:
    """The events without those that are ignored."""

    def rank(event: StepEvent) -> int:
        if event.is_excluded:
            return funnel.steps + 1
        return min(event.steps, default=funnel.steps)

    considered = [event for event in events if not event.is_ignored]
    return sorted(considered, key=lambda event: (event.time, rank(event), event.event_id))


def outcome(
    events: list[StepEvent], session: Sequence[StepEvent], funnel: Funnel
) -> Outcome | None:
    all_chains = list(chains(events, funnel))
    if not all_chains:
        return None
    furthest = max(map(len, all_chains))
    reported = min(chain for chain in all_chains if len(chain) == furthest)
    is_over = funnel.gap is not None and session[-1].time < funnel.now - funnel.gap
    is_open = furthest < funnel.steps and not is_over
    return Outcome(
        furthest,
        tuple(events[position].time for position in reported),
        is_open and any(may_go_on(chain, events, funnel) for chain in all_chains),
        min(events[chain[0]].time for chain in all_chains),
        session[0].user,
    )


def may_go_on(chain: tuple[int, ...], events: list[StepEvent], funnel: Funnel) -> bool:
    later = events[chain[-1] + 1 :]
    is_ended = bool(later) if funnel.order == "strict" else any(e.is_excluded for e in later)
    return events[chain[0]].time >= funnel.open_from and not is_ended


def chains(events: list[StepEvent], funnel: Funnel) -> Iterator[tuple[int, ...]]:
    """All chains, as positions of events."""
    for length in range(1, funnel.steps + 1):
        for chain in combinations(range(len(events)), length):
            if is_chain(chain, events, funnel):
                yield chain


def is_chain(chain: tuple[int, ...], events: list[StepEvent], funnel: Funnel) -> bool:
    members = [events[position] for position in chain]
    first, last = members[0], members[-1]
    between = events[chain[0] + 1 : chain[-1]]
    return (
        first.time < funnel.entry_end
        and last.time <= first.time + funnel.within
        and not any(event.is_excluded for event in (*members, *between))
        and (funnel.order != "strict" or len(between) == max(len(chain) - 2, 0))
        and (not funnel.has_same or is_same(members))
        and serves(members, funnel)
    )


def is_same(members: list[StepEvent]) -> bool:
    return len(members) == 1 or (
        members[0].same is not None and {event.same for event in members} == {members[0].same}
    )


def serves(members: list[StepEvent], funnel: Funnel) -> bool:
    """Whether each event matches a step of its own; the first ones in order, unless in any."""
    orders: Iterator[tuple[int, ...]] = (
        permutations(range(funnel.steps), len(members))
        if funnel.order == "any"
        else iter([tuple(range(len(members)))])
    )
    return any(
        all(step in event.steps for step, event in zip(order, members, strict=True))
        for order in orders
    )
