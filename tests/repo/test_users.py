"""The list of users agrees with plain Python, on pages that all see what the first one saw."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection

from common.questions.users import Sort, User, Users
from repo.columns import codec
from repo.events import EventsRepo
from repo.rollups.rollup_writer import RollupWriter
from tests import where_oracle
from tests.column_writer import write_columns
from tests.example_counts import examples
from tests.repo.test_choice_of_users import Did, dids
from tests.repo.test_column_reader import (
    ZONES,
    World,
    database_url,
    erase,
    insert,
    own_cache,
    store,
    worlds,
)
from tests.where_strategies import USERS
from utils.time.zones import zone

__all__ = ["database_url", "own_cache"]


def expected_users(
    world: World, where: str, did: Sequence[Did], sort: Sort, tz: str, now: datetime
) -> list[User]:
    """The whole list, by plain Python."""
    start, end = world.time_range
    users = set(USERS).difference(world.life.erased)
    for each in did:
        users &= {str(user) for user in each.users(world, now)}
    rows = [
        _row(user, sorted(times), ZoneInfo(tz))
        for user in users
        if (
            times := [
                time
                for time, event in world.stored
                if start <= time < min(end, now)
                and event.user_id == user
                and where_oracle.matches(where, event)
            ]
        )
    ]
    rows.sort(key=lambda row: row.user_id)
    return sorted(rows, key=lambda row: _value(row, sort), reverse=True)


def _row(user: str, times: list[datetime], tz: ZoneInfo) -> User:
    days = {time.astimezone(tz).date() for time in times}
    first, last = (time.astimezone(tz) for time in (times[0], times[-1]))
    return User(user, first, last, len(times), len(days))


def _value(row: User, sort: Sort) -> Any:
    value = getattr(row, sort)
    return value.timestamp() if isinstance(value, datetime) else value


@given(
    data=st.data(),
    world=worlds(),
    sort=st.sampled_from(get_args(Sort)),
    tz=st.sampled_from(ZONES),
    limit=st.integers(1, 2),
    later=st.lists(st.sampled_from([*USERS, "new"]), max_size=6),
    erased=st.none() | st.sampled_from(USERS),
)
@settings(max_examples=examples(100))
@pytest.mark.thorough
def test_pages_of_users_agree(
    owner: connection,
    repo: EventsRepo,
    data: st.DataObject,
    world: World,
    sort: Sort,
    tz: str,
    limit: int,
    later: list[str],
    erased: str | None,
) -> None:
    where = data.draw(st.just("-none:*") | st.sampled_from(world.wheres), label="where")
    did = data.draw(st.lists(dids(world.wheres), max_size=1), label="did")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "PACKED_EVENTS", 4_096 if world.life.is_packed else 0)
        store(owner, world)
    start, end = world.time_range
    parameters = {
        "start": start,
        "end": end,
        "tz": tz,
        "where": [where],
        "did": [each.text(world.time_range) for each in did],
        "sort": sort,
        "limit": limit,
    }
    page = repo.get_users(Users(**parameters).query)
    rows, now = list(page.data), page.meta.computed_at
    change_events(owner, world, later)
    expected = expected_users(world, where, did, sort, tz, now)
    assert page.meta.count == len(expected)
    if erased:
        erase(owner, erased)
        expected = [
            *expected[:limit],
            *(each for each in expected[limit:] if each.user_id != erased),
        ]
    while cursor := page.meta.next_cursor:
        page = repo.get_users(Users(**parameters, cursor=cursor).query)
        assert page.meta.computed_at == now
        rows += page.data
    assert rows == expected


def change_events(owner: connection, world: World, users: Sequence[str]) -> None:
    """Store more events in the range, fold some of them, and write columns anew."""
    middle = world.time_range[0] + (world.time_range[1] - world.time_range[0]) / 2
    rows = [
        (
            f"00000000-0000-4000-8000-{number:012}",
            user,
            "view",
            middle + timedelta(microseconds=number),
            "{}",
        )
        for number, user in enumerate(users)
    ]
    insert(owner, rows[:1])
    RollupWriter(owner, [zone("UTC")]).catch_up()
    if world.life.steps is None:
        write_columns(owner, 3)
    insert(owner, rows[1:])
