"""Counts of chosen users agree with plain Python, from chunks and from their tail."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection

from common.errors import EventsDropped, InvalidParameter, TooExpensive
from common.questions.answer import Answer, is_absent
from common.questions.event_counts import EventCounts, EventCountsData
from common.questions.top_events import TopEvents
from common.remarks import Unknown
from repo.columns import cache, codec
from repo.columns.cache import COLUMN_CACHE
from repo.engine import user_choice
from repo.events import EventsRepo
from repo.rollups.rollup_writer import RollupWriter
from tests import where_oracle
from tests.column_writer import write_columns
from tests.example_counts import examples
from tests.repo.test_column_reader import (
    DAY,
    DAY_0,
    SHARED,
    World,
    catch_up,
    database_url,
    folded,
    own_cache,
    put,
    selected,
    store,
    worlds,
)
from tests.source_comparison import finished
from tests.where_strategies import EVENT_NAMES

__all__ = ["database_url", "folded", "own_cache"]

HOUR = timedelta(hours=1)
TIMES = {
    "": (1, None),
    " @times:1": (1, 1),
    " @times:2..": (2, None),
    " @times:..1": (0, 1),
    " @times:0": (0, 0),
    " @times:2..3": (2, 3),
}


@dataclass(frozen=True)
class Did:
    """A condition on users, and what it means."""

    names: tuple[str, ...]
    where: str
    times: str
    edges: tuple[timedelta | None, timedelta | None, int | None]
    """The start and the end, both before the end of the question's range, or the last hours."""

    def text(self, time_range: tuple[datetime, datetime]) -> str:
        start, end, hours = self.edges
        names = ",".join(json.dumps(name) for name in self.names) or "*"
        options = {
            "start": start is not None and _time(time_range[1] - start),
            "end": end is not None and _time(time_range[1] - end),
            "last": hours and f"{hours}h",
        }
        texts = "".join(f" @{name}:{value}" for name, value in options.items() if value)
        return f"{names} {self.where}{self.times}{texts}"

    def range_at(
        self, time_range: tuple[datetime, datetime], now: datetime
    ) -> tuple[datetime, datetime]:
        start, end, hours = self.edges
        if hours:
            until = min(time_range[1], now)
            return until - hours * HOUR, until
        if start is None and end is None:
            return time_range
        first = datetime(1999, 1, 1, tzinfo=UTC) if start is None else time_range[1] - start
        return first, time_range[1] - (end or timedelta(0))

    def users(self, world: World, now: datetime) -> set[str | None]:
        """The users who meet it."""
        start, end = self.range_at(world.time_range, now)
        events = selected(world, start, min(end, now), self.names)
        matching = [event for event in events if where_oracle.matches(self.where, event)]
        counts = Counter(event.user_id for event in matching)
        low, high = TIMES[self.times]
        everybody = {event.user_id for _, event in world.stored}
        return {
            user
            for user in everybody
            if low <= counts[user] and (high is None or counts[user] <= high)
        }


def _time(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


@st.composite
def dids(draw: st.DrawFn, wheres: Sequence[str]) -> Did:
    lengths = st.timedeltas(timedelta(0), 25 * DAY)
    start, end = sorted([draw(lengths), draw(lengths)], reverse=True)
    edges = draw(
        st.sampled_from(
            [
                (None, None, None),
                (start + timedelta.resolution, None, None),
                (start + timedelta.resolution, end, None),
                (None, end, None),
                (None, None, 1 + int(start / HOUR)),
            ]
        )
    )
    names = tuple(draw(st.lists(st.sampled_from(EVENT_NAMES), max_size=2)))
    return Did(names, draw(st.sampled_from(wheres)), draw(st.sampled_from([*TIMES])), edges)


@given(data=st.data(), world=worlds())
@settings(max_examples=examples(100))
@pytest.mark.thorough
def test_counts_of_chosen_users_agree(
    owner: connection, repo: EventsRepo, data: st.DataObject, world: World
) -> None:
    conditions = st.lists(dids(world.wheres), max_size=2)
    did, not_did = data.draw(conditions, label="did"), data.draw(conditions, label="not_did")
    where = data.draw(st.none() | st.sampled_from(world.wheres), label="where")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "PACKED_EVENTS", 4_096 if world.life.is_packed else 0)
        store(owner, world)
    question = EventCounts(
        start=world.time_range[0],
        end=world.time_range[1],
        interval="day",
        where=[where] if where else [],
        did=[each.text(world.time_range) for each in did],
        not_did=[each.text(world.time_range) for each in not_did],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_MAX_PENDING_BYTES", world.life.pending_bytes)
        patch.setattr(cache, "_READ_CHUNKS", 2)
        COLUMN_CACHE.resize(world.life.max_bytes)
        for _ in range(2):
            answer = finished(repo.get_event_counts(question.query))
            check(world, did, not_did, where, answer)


def check(
    world: World,
    did: Sequence[Did],
    not_did: Sequence[Did],
    where: str | None,
    answer: Answer[EventCountsData],
) -> None:
    """Compare an answer with plain Python, up to the time of the answer."""
    now = answer.meta.computed_at
    users = {event.user_id for _, event in world.stored}
    if did or not_did:
        users -= {None}
    for each in did:
        users &= each.users(world, now)
    for each in not_did:
        users -= each.users(world, now)
    events = [
        event
        for event in selected(world, world.time_range[0], min(world.time_range[1], now), ())
        if event.user_id in users and (where is None or where_oracle.matches(where, event))
    ]
    expected = len(events), len({event.user_id for event in events} - {None})
    assert (answer.data.events, answer.data.users) == expected
    assert sum(bucket.events for bucket in answer.data.series) == len(events)


def ask(repo: EventsRepo, **parameters: Any) -> Answer[EventCountsData]:
    return finished(repo.get_event_counts(EventCounts(**{**SHARED, **parameters}).query))


def test_users_without_an_ordinal_are_chosen_by_all_their_events(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    put(owner, 5, user="u1")
    catch_up(folded)
    write_columns(owner, 4)
    put(owner, 3, '{"a": 1}', user="new1")
    put(owner, 4, '{"a": 2}', user="new2")
    put(owner, 1, '{"a": 1}', user="u1")
    assert ask(repo, did=["view a:1"]).data == EventCountsData(9, 2)
    assert ask(repo, did=["view @times:4..5"]).data == EventCountsData(4, 1)
    assert ask(repo, not_did=["view a:1"]).data == EventCountsData(4, 1)
    later = (DAY_0 + 3 * HOUR).isoformat()[:19] + "Z"
    assert ask(repo, did=[f"view @start:{later}"]).data == EventCountsData(10, 2)
    assert ask(repo, end=later, did=[f"view @start:{later} @end:2025-04-01"]).data.users == 2


def test_names_of_conditions_that_no_event_has_are_in_the_meta(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    put(owner, 1, '{"plan": "pro"}')
    catch_up(folded)
    write_columns(owner)
    put(owner, 1, '{"new": 1}')
    meta = ask(repo, where=["b:1"], did=["no,view new:1"], not_did=["view a:1"]).meta
    assert meta.unknown == Unknown(["no"], ["a", "b"])
    assert is_absent(ask(repo, did=["view plan:pro or new:1"]).meta.unknown)


def test_a_plan_counts_all_that_is_read(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    put(owner, 10, '{"plan": "pro"}')
    catch_up(folded)
    write_columns(owner)
    put(owner, 3)
    query = EventCounts(
        start=DAY_0, end=DAY_0 + 5 * HOUR, did=["view plan:pro @end:2026-01-01"]
    ).query
    plan = repo.get_plan(query).data
    assert (plan.source, plan.chunks, plan.column_rows, plan.tail) == ("columns", 1, 20, 3)
    assert 500 < plan.column_bytes < 10_000
    assert finished(repo.get_event_counts(query)).data == EventCountsData(8, 1)
    assert repo.get_plan(query).data.column_bytes == 0


def test_dropped_events_that_choose_users_are_refused(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    put(owner, 10, '{"a": 1}')
    catch_up(folded)
    write_columns(owner)
    with owner.cursor() as cur:
        cur.execute("update column_state set columns_from = %s", (DAY_0 + 4 * HOUR,))
    later = DAY_0 + 5 * HOUR
    for parameter in ("did", "not_did"):
        since = rf"`@start:2025-03-01T04:00:00Z` or later in `{parameter}`"
        with pytest.raises(EventsDropped, match=since) as refused:
            ask(repo, start=later, **{parameter: ["* a:1 @last:50d"]})
        assert refused.value.extra_members == {"horizon": "2025-03-01T04:00:00Z"}
    assert ask(repo, start=later, did=["* @last:50d"]).data.events == 5
    assert ask(repo, start=later, did=["* a:1 @start:2025-03-01T04:00:00Z"]).data.events == 5
    explained = repo.get_plan(EventCounts(**SHARED, did=["* a:1"]).query).data
    assert explained.needs_dropped


def test_a_property_that_was_left_out_names_the_parameter(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    put(owner, 10, '{"a": 1, "b": 1, "c": 1}')
    catch_up(folded)
    write_columns(owner, limit=2)
    assert ask(repo, did=["* a:1"]).data.events == 10
    with pytest.raises(InvalidParameter) as refused:
        ask(repo, not_did=["* c:1"])
    assert [fault.parameter for fault in refused.value.faults] == ["not_did"]


def test_other_questions_count_events_of_chosen_users(
    owner: connection, repo: EventsRepo, folded: RollupWriter
) -> None:
    put(owner, 2, '{"a": 1}', user="u1")
    put(owner, 3, user="u2")
    catch_up(folded)
    write_columns(owner)
    question = TopEvents(**SHARED, did=["* a:1"])
    data = finished(repo.get_top_events(question.query)).data
    assert [(row.event_name, row.events, row.users) for row in data.rows] == [("view", 2, 1)]
    answer = finished(repo.get_top_events(question.query))
    assert answer.meta.definition.endswith(
        " Only events of users count who have at least 1 event that matches a:1 from "
        "2025-03-01T00:00:00Z up to but excluding 2025-04-10T00:00:00Z."
    )


def test_the_memory_of_a_choice_is_limited(
    owner: connection, repo: EventsRepo, folded: RollupWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(owner, 2, user="u1")
    catch_up(folded)
    monkeypatch.setattr(user_choice, "MAX_BYTES", 2)
    with pytest.raises(TooExpensive, match="fewer `did`"):
        ask(repo, did=["view"])
