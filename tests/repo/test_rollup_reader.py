"""Counts of ranges from spans, slots, the tail and edges."""

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection

from common.query import Query
from repo.engine.cost import Cost
from repo.engine.dimensions import ALL, EventNameDictionary, EventNameFilter
from repo.engine.rollup_reader import RollupReader, TemporaryOrdinals
from repo.engine.span_cache import SpanCache
from repo.engine.watermark import read_watermark
from tests.events import fold, insert
from tests.source_comparison import Asker
from utils.time.calendar import Range
from utils.time.zones import zone

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MARCH = Range(datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC))


@pytest.fixture
def events(conn: connection, database_url: str) -> None:
    """Three events that are folded, and one that is in the tail."""
    insert(conn, ("a", "view", NOON), ("b", "view", NOON), ("a", "buy", NOON + 20 * MINUTE))
    fold(database_url)
    insert(conn, ("c", "view", NOON + MINUTE))


@contextmanager
def reader(asker: Asker, *, by_name: bool = False) -> Iterator[RollupReader]:
    with asker.snapshot() as cur:
        watermark = read_watermark(cur)
        assert watermark is not None
        names = EventNameFilter(cur, watermark, None, EventNameDictionary(), by_name=by_name)
        query = Query("test", zone("UTC"))
        yield RollupReader(cur, watermark, SpanCache(), names, query, is_guarded=True)


@pytest.mark.usefixtures("events")
def test_a_range_counts_folded_events_and_the_tail(asker: Asker) -> None:
    with reader(asker) as opened:
        (partials,) = opened.partials([MARCH])
        assert opened.tail() == 1
    assert list(partials) == [ALL]
    assert partials[ALL].events == 4


@pytest.mark.usefixtures("events")
def test_names_are_counted_by_themselves(asker: Asker) -> None:
    with reader(asker, by_name=True) as opened:
        (partials,) = opened.partials([MARCH])
        names = opened.name_filter.names_of(partials)
    assert {names[key]: partial.events for key, partial in partials.items()} == {
        "view": 3,
        "buy": 1,
    }


@pytest.mark.usefixtures("events")
def test_parts_finer_than_a_slot_are_counted_from_the_events(asker: Asker) -> None:
    ranges = [Range(NOON, NOON + MINUTE), Range(NOON + MINUTE, NOON + 20 * MINUTE)]
    with reader(asker) as opened:
        counts = [partials[ALL].events for partials in opened.partials(ranges)]
        assert opened.cost(ranges[:1]).events > 0
        assert opened.cost([MARCH]) == Cost(rows=1, bytes=20)
    assert counts == [2, 1]


def test_users_without_ordinals_get_temporary_ones() -> None:
    ordinals, users = TemporaryOrdinals(), array("I")
    ordinals.add_to(users, b"a\0b\0a\0")
    ordinals.add_to(users, b"c\0b\0")
    first = 2**31
    assert users.tolist() == [first, first + 1, first, first + 2, first + 1]
