"""Lists of users agree with plain Python, and with the numbers that they are about."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection

from common.dates import EARLIEST
from common.filters import quote
from common.questions.active_users import ActiveUsers
from common.questions.answer import is_absent
from common.questions.base import ListsUsers
from common.questions.breakdown import Breakdown
from common.questions.event_counts import EventCounts
from common.questions.numbers import Numbers
from common.questions.top_events import TopEvents
from repo.columns import codec
from repo.events import EventsRepo
from tests import where_oracle
from tests.example_counts import examples
from tests.repo.test_choice_of_users import Did, dids
from tests.repo.test_column_reader import (
    ZONES,
    Stored,
    World,
    database_url,
    erase,
    own_cache,
    store,
    worlds,
)
from tests.repo.test_users import change_events
from tests.source_comparison import finished
from tests.where_strategies import EVENT_NAMES, USERS

__all__ = ["database_url", "own_cache"]

PROPERTIES = ["a", "b", '"a.b"', "a.a", "none"]
DAY = timedelta(days=1)
WINDOWS = {"dau": 1, "wau": 7, "mau": 30, "active": 3}
TYPES: list[type] = [Decimal, str, bool, type(None)]

Key = tuple[tuple[int, Any], ...]
"""The values of a row, each with the number of its type."""


class CellCase(NamedTuple):
    """A cell, the number that the answer has for it, and the events whose users it counts."""

    text: str
    """Empty for the total."""
    number: int | None
    """None where the answer does not have the number by itself."""
    events: Sequence[Stored]

    @property
    def users(self) -> set[str]:
        return {each.event.user_id for each in self.events if each.event.user_id}


@dataclass(frozen=True)
class Answered:
    """A question about a world, and its answer."""

    question: Any
    world: World
    where: str
    chosen: set[str | None] | None
    """The users who are chosen by `did`; None for all events."""
    data: Any
    now: datetime

    def events(self, start: datetime | None = None, end: datetime | None = None) -> list[Stored]:
        """The events of a range that the question counts."""
        first, last = (start, end) if start and end else self.world.time_range
        names = self.question.event
        return [
            each
            for each in self.world.stored
            if first <= each.occurred_at < min(last, self.now)
            and (not names or each.event.event_name in names)
            and each.event.user_id not in self.world.life.erased
            and (self.chosen is None or each.event.user_id in self.chosen)
            and where_oracle.matches(self.where, each.event)
        ]


def cells(answered: Answered) -> list[CellCase]:
    """All cells of an answer, and some that are empty."""
    match answered.question:
        case EventCounts():
            return [*event_counts_cells(answered)]
        case TopEvents():
            return [*top_events_cells(answered)]
        case ActiveUsers():
            return [*active_users_cells(answered)]
        case Breakdown():
            return [*breakdown_cells(answered)]
        case _:
            return [*numbers_cells(answered)]


def event_counts_cells(answered: Answered) -> Iterator[CellCase]:
    yield from with_buckets(answered, "", answered.data, answered.events())


def with_buckets(
    answered: Answered, row: str, part: Any, events: Sequence[Stored]
) -> Iterator[CellCase]:
    """The cell of a row, and those of its buckets, by their days and by their starts."""
    yield CellCase(row, field(part, "users"), events)
    for bucket in field(part, "series") or []:
        start, end = field(bucket, "start"), field(bucket, "end")
        inside = [each for each in events if start <= each.occurred_at < end]
        for value in (field(bucket, "day"), start):
            if value:
                text = f"{row} start:{value.isoformat()}".strip()
                yield CellCase(text, field(bucket, "users"), inside)


def field(part: Any, name: str) -> Any:
    """A field of a part of an answer; None without it."""
    value = part.get(name) if isinstance(part, dict) else getattr(part, name, None)
    return None if is_absent(value) else value


def top_events_cells(answered: Answered) -> Iterator[CellCase]:
    data, everything = answered.data, answered.events()
    top = {row.event_name: row.users for row in data.rows}
    yield CellCase("", data.users, everything)
    for name in {*top, *EVENT_NAMES, "nothing"}:
        events = [each for each in everything if each.event.event_name == name]
        yield CellCase(f"event_name:{quote(name)}", top.get(name), events)
    others = [each for each in everything if each.event.event_name not in top]
    yield CellCase("@row:other", data.other.users, others)


def active_users_cells(answered: Answered) -> Iterator[CellCase]:
    tz = answered.question.tz
    for row in answered.data.series:
        for count in ("dau", "wau", "mau", "active", "calendar_week", "calendar_month"):
            first = first_day(row.date, count)
            events = answered.events(midnight(first, tz), midnight(row.date + DAY, tz))
            yield CellCase(f"date:{row.date} @count:{count}", getattr(row, count), events)
        start = midnight(row.date, tz)
        before = {each.event.user_id for each in answered.events(EARLIEST, start)}
        day = answered.events(start, midnight(row.date + DAY, tz))
        new = [each for each in day if each.event.user_id not in before]
        yield CellCase(f"date:{row.date} @count:new", row.new, new)
        existing = [each for each in day if each.event.user_id in before]
        yield CellCase(f"date:{row.date} @count:existing", row.existing, existing)


def first_day(day: date, count: str) -> date:
    if count == "calendar_week":
        return day - day.weekday() * DAY
    return day.replace(day=1) if count == "calendar_month" else day - (WINDOWS[count] - 1) * DAY


def midnight(day: date, tz: str) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(tz)).astimezone(UTC)


def breakdown_cells(answered: Answered) -> Iterator[CellCase]:
    names = list(map(str, answered.question.query.by))
    data, everything = answered.data, answered.events()
    yield CellCase("", data.users, everything)
    yield from row_cells(answered, names, everything, [(row.values, row) for row in data.rows])
    yield from rest_cells(answered, names, everything, [row.values for row in data.rows], data)


def numbers_cells(answered: Answered) -> Iterator[CellCase]:
    query, data = answered.question.query, answered.data
    path = where_oracle._path(str(query.of))
    everything = [
        each
        for each in answered.events()
        if any(isinstance(value, Decimal) for value in where_oracle.values(each.event, path))
    ]
    yield from with_buckets(answered, "", data, everything)
    if query.by:
        names, rows = [str(query.by)], [([row["value"]], row) for row in data["rows"]]
        yield from row_cells(answered, names, everything, rows)
        yield from rest_cells(answered, names, everything, [values for values, _ in rows], data)


def row_cells(
    answered: Answered,
    names: Sequence[str],
    everything: Sequence[Stored],
    rows: Sequence[tuple[Sequence[Any], Any]],
) -> Iterator[CellCase]:
    """The cells of rows with values."""
    for values, row in rows:
        key = key_of(values)
        text = " ".join(map(condition, names, key))
        if any(TYPES[rank] is bool for rank, _ in key):
            # A bare true means the text as well.
            events = [each for each in everything if where_oracle.matches(text, each.event)]
            yield CellCase(text, None, events)
        else:
            events = [each for each in everything if key in keys_of(each, names)]
            yield from with_buckets(answered, text, row, events)


def rest_cells(
    answered: Answered,
    names: Sequence[str],
    everything: Sequence[Stored],
    shown: Sequence[Sequence[Any]],
    data: Any,
) -> Iterator[CellCase]:
    """The cells of the rows without values."""
    top, missing = set(map(key_of, shown)), TYPES.index(type(None))
    others = [each for each in everything if keys_of(each, names) - top]
    yield from with_buckets(answered, "@row:other", field(data, "other"), others)
    lacking = [
        each
        for each in everything
        if any(rank == missing for key in keys_of(each, names) for rank, _ in key)
    ]
    yield from with_buckets(answered, "@row:missing", field(data, "missing"), lacking)
    yield CellCase(" ".join(f'{name}:"no such value"' for name in names), None, [])


def key_of(values: Sequence[Any]) -> Key:
    typed = [
        Decimal(bytes(each).decode()) if isinstance(each, msgspec.Raw) else each for each in values
    ]
    return tuple((TYPES.index(type(each)), 0 if each is None else each) for each in typed)


def keys_of(stored: Stored, names: Sequence[str]) -> set[Key]:
    """The rows that an event is in."""
    by_name = [
        {each for value in values_of(stored, name) for each in key_of([value])} for name in names
    ]
    return set(product(*by_name))


def values_of(stored: Stored, name: str) -> list[Any]:
    path = name if name == "@event" else where_oracle._path(name)
    return where_oracle.values(stored.event, path) or [None]


def condition(name: str, typed: tuple[int, Any]) -> str:
    rank, value = typed
    match TYPES[rank]:
        case kind if kind is Decimal:
            return f"{name}:{value}..{value}"
        case kind if kind is str:
            return f"{name}:{quote(value)}"
        case kind if kind is bool:
            return f"{name}:{str(value).lower()}"
        case _:
            return f"-{name}:*"


intervals = st.sampled_from([None, "hour", "day", "week"])
limits = st.integers(1, 4)
by = st.lists(st.sampled_from([*PROPERTIES, "@event"]), min_size=1, max_size=2, unique=True)
QUESTIONS: dict[type[ListsUsers], st.SearchStrategy[dict[str, Any]]] = {
    EventCounts: st.fixed_dictionaries({"interval": intervals}),
    TopEvents: st.fixed_dictionaries({"limit": limits}),
    ActiveUsers: st.fixed_dictionaries({"window": st.just(WINDOWS["active"])}),
    Breakdown: st.fixed_dictionaries({"by": by, "limit": limits, "interval": intervals}),
    Numbers: st.fixed_dictionaries(
        {
            "of": st.sampled_from(PROPERTIES),
            "by": st.none() | st.sampled_from(PROPERTIES),
            "limit": limits,
            "interval": intervals,
            "per": st.sampled_from(["event", "user"]),
        }
    ),
}


def answer_of(repo: EventsRepo, question: ListsUsers) -> Any:
    return finished(getattr(repo, f"get_{question.name}")(question.query))


@given(
    data=st.data(),
    world=worlds(),
    question_type=st.sampled_from(list(QUESTIONS)),
    names=st.lists(st.sampled_from(EVENT_NAMES), max_size=2).map(tuple),
    tz=st.sampled_from(ZONES),
    page_size=st.integers(1, 3),
    later=st.lists(st.sampled_from([*USERS, "new"]), max_size=4),
    erased=st.none() | st.sampled_from(USERS),
)
@settings(max_examples=examples(120))
@pytest.mark.thorough
def test_lists_have_the_users_that_numbers_count(
    owner: connection,
    repo: EventsRepo,
    data: st.DataObject,
    world: World,
    question_type: type[ListsUsers],
    names: tuple[str, ...],
    tz: str,
    page_size: int,
    later: list[str],
    erased: str | None,
) -> None:
    where = data.draw(st.just("-none:*") | st.sampled_from(world.wheres), label="where")
    did = data.draw(st.lists(dids(world.wheres), max_size=1), label="did")
    own = data.draw(QUESTIONS[question_type], label="parameters")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "PACKED_EVENTS", 4_096 if world.life.is_packed else 0)
        store(owner, world)
    start, end = world.time_range
    shared = {"start": start, "end": end, "tz": tz, "where": [where], "event": names}
    parameters = {**shared, **own, "did": [each.text(world.time_range) for each in did]}
    question = question_type(**parameters)
    answer = answer_of(repo, question)
    now = answer.meta.computed_at
    chosen = chosen_by(did, world, now)
    all_cells = cells(Answered(question, world, where, chosen, answer.data, now))
    if not all_cells:
        return  # no day has begun
    some = data.draw(st.lists(st.sampled_from(all_cells), min_size=1, max_size=9), label="cells")
    whole = [each for each in all_cells if "start:" not in each.text and "date:" not in each.text]
    for each in [*whole, *some]:
        assert_lists(repo, question_type(**listing_of(parameters, each, 1_000)), each)
    cell = some[0]
    listing = listing_of(parameters, cell, page_size)
    page = repo.get_counted_users(question_type(**listing).query)
    assert page.meta.count == len(cell.users)
    assert cell.number in (None, page.meta.count)
    change_events(owner, world, later)
    expected = sorted(cell.users)
    if erased:
        erase(owner, erased)
        expected = expected[:page_size] + [each for each in expected[page_size:] if each != erased]
    listed = [each.user_id for each in page.data]
    while cursor := page.meta.next_cursor:
        computed_at = page.meta.computed_at
        page = repo.get_counted_users(question_type(**listing, cursor=cursor).query)
        assert page.meta.computed_at == computed_at
        listed += [each.user_id for each in page.data]
    assert listed == expected


def listing_of(parameters: dict[str, Any], cell: CellCase, page_size: int) -> dict[str, Any]:
    text = {"cell": cell.text} if cell.text else {}
    return {**parameters, **text, "list": "users", "page_size": page_size}


def assert_lists(repo: EventsRepo, question: ListsUsers, cell: CellCase) -> None:
    """Compare a list that fits on one page."""
    page = repo.get_counted_users(question.query)
    assert [each.user_id for each in page.data] == sorted(cell.users)
    assert page.meta.count == len(cell.users)
    assert cell.number in (None, page.meta.count)


def chosen_by(did: Sequence[Did], world: World, now: datetime) -> set[str | None] | None:
    if not did:
        return None
    return set.intersection(*(each.users(world, now) for each in did)) - {None, ""}
