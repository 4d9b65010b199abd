"""Breakdowns by properties agree with plain Python, from chunks and from their tail."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection

from common.questions.answer import is_absent
from common.questions.breakdown import Breakdown, BreakdownData
from repo.columns import codec
from repo.columns.cache import COLUMN_CACHE, ColumnFolder
from repo.events import EventsRepo
from tests import breakdown_oracle, where_oracle
from tests.breakdown_oracle import Row
from tests.example_counts import examples
from tests.repo.test_column_reader import (
    ZONES,
    World,
    database_url,
    own_cache,
    selected,
    store,
    worlds,
)
from tests.source_comparison import finished

__all__ = ["database_url", "own_cache"]  # fixtures

BY = st.lists(st.sampled_from(["a", "b", '"a.b"', "a.a", "@event", "none"]), min_size=1, max_size=2)


@given(
    world=worlds(),
    by=BY.filter(lambda names: len(set(names)) == len(names)),
    limit=st.integers(1, 5),
    tz=st.sampled_from(ZONES),
    interval=st.sampled_from([None, "hour", "day", "week"]),
)
@settings(max_examples=examples(60))
@pytest.mark.thorough
def test_breakdown_agrees(
    owner: connection,
    repo: EventsRepo,
    tmp_path_factory: pytest.TempPathFactory,
    world: World,
    by: list[str],
    limit: int,
    tz: str,
    interval: Any,
) -> None:
    folder = tmp_path_factory.mktemp("columns") if world.life.has_folder else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "PACKED_EVENTS", 4_096 if world.life.is_packed else 0)
        store(owner, world)
    COLUMN_CACHE.share(ColumnFolder(folder, 2**26) if folder else None)
    start, end = world.time_range
    for where in world.wheres[:3]:
        question = Breakdown(
            by=by, limit=limit, start=start, end=end, tz=tz, interval=interval, where=[where]
        )
        answer = finished(repo.get_breakdown(question.query))
        check(world, where, by, limit, answer.data, min(end, answer.meta.computed_at))


def check(
    world: World, where: str, by: list[str], limit: int, data: BreakdownData, until: Any
) -> None:
    """Compare an answer with plain Python, up to the time of the answer."""
    edges = [(world.time_range[0], until)]
    if not is_absent(data.other.series):
        edges = [(bucket.start, min(bucket.end, until)) for bucket in data.other.series]
    buckets = [
        [each for each in selected(world, *edge, ()) if where_oracle.matches(where, each)]
        for edge in edges
    ]
    paths = ["@event" if name == "@event" else where_oracle._path(name) for name in by]
    expected = breakdown_oracle.breakdown(buckets, paths, limit)
    assert (data.events, data.users) == expected.total
    assert (data.missing.events, data.missing.users) == expected.missing
    assert data.other.rows == expected.other_rows
    has_series = not is_absent(data.other.series)
    for row, of_row in zip([*data.rows, data.other], [*expected.rows, expected.other], strict=True):
        assert plain(row, has_series) == (of_row if has_series else of_row._replace(series=[]))


def plain(row: Any, has_series: bool) -> Row:
    """A row in the form of the oracle."""
    values = [
        Decimal(bytes(each).decode()) if isinstance(each, msgspec.Raw) else each
        for each in getattr(row, "values", [])
    ]
    return Row(
        [(type(each).__name__, each) for each in values],
        (row.events, row.users),
        [(each.events, each.users) for each in row.series] if has_series else [],
    )
