"""The catalogue agrees with plain Python, counted by a question or stored before."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection

from common.errors import TooExpensive
from common.filters import Name
from common.questions.answer import is_absent
from common.questions.event_names import EventNames
from common.questions.properties import Properties, PropertyRow
from common.questions.property_values import PropertyValues
from repo.catalogue import count, property_counter
from repo.catalogue.count import count_if_due
from repo.catalogue.store import CatalogueStore
from repo.columns import codec
from repo.columns.cache import COLUMN_CACHE
from repo.engine import cost, rollup_source
from repo.engine.column_reader import ColumnReader
from repo.events import EventsRepo
from repo.lifecycle.erasure import EraseRepo
from repo.queries import properties
from repo.rollups.rollup_writer import RollupWriter
from tests import catalogue_oracle
from tests.catalogue_oracle import Occurred
from tests.events import insert
from tests.example_counts import examples
from tests.repo.test_column_reader import EMPTY, World, database_url, own_cache, store, worlds
from tests.source_comparison import connected, finished
from tests.written_columns import differences, execute
from utils.decimals import decimal_text

__all__ = ["database_url", "own_cache"]  # fixtures

PATHS = [("a",), ("b",), ("a.b",), ("a", "a"), ("none",)]
PREFIXES = ["", "x", "5", "-", "t", "A"]
HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def counts_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics are stored of few events as well."""
    monkeypatch.setattr(count, "MIN_EVENTS", 0)


@given(
    world=worlds(),
    is_stored=st.booleans(),
    max_pairs=st.sampled_from([4, 16, 2**23]),
    max_values=st.sampled_from([2, 10_000]),
    max_distinct=st.sampled_from([3, 100_000]),
    limit=st.integers(1, 5),
    starts=st.sampled_from(PREFIXES),
)
@settings(max_examples=examples(90))
@pytest.mark.thorough
def test_the_catalogue_agrees(
    owner: connection,
    repo: EventsRepo,
    world: World,
    is_stored: bool,
    max_pairs: int,
    max_values: int,
    max_distinct: int,
    limit: int,
    starts: str,
) -> None:
    execute(owner, "truncate catalogue_counts, catalogue_properties, catalogue_names")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "PACKED_EVENTS", 4_096 if world.life.is_packed else 0)
        store(owner, world)
        COLUMN_CACHE.share(None)
        if is_stored:
            patch.setattr(count, "_MAX_PAIRS", max_pairs)
            for name, value in (("max_values", max_values), ("max_distinct", max_distinct)):
                defaults: Any = property_counter.PropertyCounter.__init__.__kwdefaults__
                patch.setitem(defaults, name, value)
            count_if_due(owner)
    compare_properties(repo, world, max_distinct if is_stored and is_counted(owner) else 10**5)
    for path in PATHS:
        compare_values(repo, world, path, limit, starts)


def is_counted(conn: connection) -> bool:
    return execute(conn, "select from catalogue_counts") > 0


def compare_properties(repo: EventsRepo, world: World, max_distinct: int) -> None:
    answer = finished(repo.get_properties(Properties(limit=1000).query))
    expected = catalogue_oracle.properties(selected(world, answer.meta.counted_at))
    rows = [plain(row) for row in answer.data.rows if row.events]
    assert rows == [
        (
            str(Name(path)),
            *each[:4],
            each.types,
            each.distinct if each.distinct <= max_distinct else None,
        )
        for path, each in sorted(
            expected.items(), key=lambda item: (-item[1].events, str(Name(item[0])))
        )
    ]
    assert answer.data.properties == len(answer.data.rows)


def plain(row: PropertyRow) -> tuple[Any, ...]:
    types = {kind: events for kind, events in row.types.items() if events}
    return (row.property, row.events, row.users, row.first_seen, row.last_seen, types, row.distinct)


def compare_values(
    repo: EventsRepo, world: World, path: tuple[str, ...], limit: int, starts: str
) -> None:
    question = PropertyValues(property=str(Name(path)), limit=limit, starts=starts)
    answer = finished(repo.get_property_values(question.query))
    events = selected(world, answer.meta.counted_at)
    every = catalogue_oracle.values(events, path)
    expected = [each for each in every if text(each.value).startswith(starts)]
    rows = [(decoded(row.value), row.type, row.events, row.users) for row in answer.data.rows]
    assert rows == expected[:limit]
    assert answer.data.distinct in (len(expected), None)
    property_ = catalogue_oracle.properties(events).get(path)
    assert answer.data.events == (property_.events if property_ else 0)
    if not is_absent(answer.meta.unknown):
        assert (property_, answer.meta.unknown.properties) == (None, [str(Name(path))])


def selected(world: World, until: datetime) -> list[Occurred]:
    return [
        (occurred_at, event)
        for occurred_at, event in world.stored
        if occurred_at < until and event.user_id not in world.life.erased
    ]


def decoded(value: Any) -> Any:
    return Decimal(bytes(value).decode()) if isinstance(value, msgspec.Raw) else value


def text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else decimal_text(value)


@pytest.fixture
def stored(owner: connection) -> Iterator[connection]:
    """Events of two users, whose statistics are stored."""
    execute(owner, EMPTY)
    execute(owner, "truncate catalogue_counts, catalogue_properties, catalogue_names")
    insert(
        owner,
        ("u", "view", NOW - 3 * HOUR, {"plan": "pro", "n": [1, 1.0, "1"], "cart": {"sku": "x"}}),
        ("v", "view", NOW - 2 * HOUR, {"plan": "free", "only v": True}),
        ("v", "view", NOW - HOUR, {"plan": "pro"}),
    )
    RollupWriter(owner, []).catch_up()
    yield owner
    for user in "uvw":
        EraseRepo(owner).erase(user)
    RollupWriter(owner, []).catch_up()


def expire(conn: connection) -> None:
    execute(conn, "update catalogue_counts set counted_at = counted_at - interval '10 minutes'")


def rows(repo: EventsRepo) -> dict[str, Any]:
    answer = finished(repo.get_properties(Properties(limit=1000).query))
    return {row.property: (row.events, row.users, row.types) for row in answer.data.rows}


def values(repo: EventsRepo, name: str, **parameters: Any) -> list[Any]:
    query = PropertyValues(property=name, **parameters).query
    answer = finished(repo.get_property_values(query))
    return [(decoded(row.value), row.events, row.users) for row in answer.data.rows]


PLAN = [("pro", 2, 2), ("free", 1, 1)]
ROWS = {
    "plan": (3, 2, {"text": 3}),
    "cart.sku": (1, 1, {"text": 1}),
    "n": (1, 1, {"number": 1, "text": 1}),
    '"only v"': (1, 1, {"boolean": 1}),
}


def test_new_names_and_types_appear_before_they_are_counted(
    stored: connection, repo: EventsRepo
) -> None:
    assert rows(repo) == ROWS
    insert(stored, ("w", "view", NOW, {"new": 1, "plan": 5}))
    tail = {**ROWS, "plan": (3, 2, {"text": 3, "number": 0}), "new": (0, 0, {"number": 0})}
    assert rows(repo) == tail
    writer = RollupWriter(stored, [])
    writer.step()
    while writer._stores.columns.maintain(stored, is_lazy=False):
        pass
    assert rows(repo) == tail
    assert values(repo, "plan") == PLAN
    assert values(repo, "new") == []
    expire(stored)
    writer.maintain(is_lazy=False)
    assert values(repo, "plan") == [*PLAN[:1], (Decimal(5), 1, 1), *PLAN[1:]]
    assert rows(repo)["new"] == (1, 1, {"number": 1})


def test_too_many_values_are_not_counted_at_once(stored: connection, repo: EventsRepo) -> None:
    execute(stored, "truncate catalogue_counts, catalogue_properties, catalogue_names")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(properties, "_MAX_DISTINCT", 4)
        with pytest.raises(TooExpensive, match="6 values of all properties; the limit is 4"):
            rows(repo)
    assert rows(repo) == ROWS


def test_events_in_no_chunk_are_parsed_once(stored: connection, repo: EventsRepo) -> None:
    insert(stored, ("w", "view", NOW, {"plan": "pro"}))
    execute(stored, "truncate catalogue_counts, catalogue_properties, catalogue_names")
    read, reads = ColumnReader._read_tail, list[Any]()

    def read_once(*args: Any) -> Any:
        reads.append(args)
        return read(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ColumnReader, "_read_tail", read_once)
        assert count_if_due(stored) == len(ROWS)
    assert len(reads) == 1


def test_lazy_maintenance_counts_nothing(stored: connection, repo: EventsRepo) -> None:
    insert(stored, ("w", "view", NOW, {"plan": "pro"}))
    assert CatalogueStore([]).maintain(stored, is_lazy=True) == 0
    assert values(repo, "plan") == PLAN


def test_an_erased_user_is_in_no_statistics(stored: connection, repo: EventsRepo) -> None:
    assert is_counted(stored)
    EraseRepo(stored).erase("v")
    for table in ("catalogue_counts", "catalogue_properties"):
        assert execute(stored, f"select from {table}") == 0
    for _ in range(2):
        assert values(repo, "plan") == [("pro", 1, 1)]
        assert "only v" not in str(rows(repo))
        count_if_due(stored)
        assert is_counted(stored)


def test_a_count_during_an_erasure_is_not_stored(stored: connection, database_url: str) -> None:
    execute(stored, "truncate catalogue_counts, catalogue_properties, catalogue_names")
    counter = count._Counter.count

    def erase_meanwhile(*args: Any) -> Any:
        counted = counter(*args)
        with connected(database_url) as other:
            EraseRepo(other).erase("v")
        return counted

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count._Counter, "count", erase_meanwhile)
        assert count_if_due(stored) == 0
    assert not is_counted(stored)


def test_without_changes_the_statistics_are_those_of_now(stored: connection) -> None:
    expire(stored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count._Counter, "count", lambda *_: pytest.fail("counted"))
        assert count_if_due(stored) == 0
    recent = "select from catalogue_counts where counted_at > now() - interval '30 s'"
    assert execute(stored, recent) == 1


def test_events_of_the_future_are_counted_once_they_occur(stored: connection) -> None:
    insert(stored, ("w", "view", NOW + 9 * HOUR, {"plan": "pro"}))
    writer = RollupWriter(stored, [])
    writer.catch_up()
    expire(stored)
    writer.maintain(is_lazy=False)
    expire(stored)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count._Counter, "count", lambda *_: pytest.fail("counted"))
        assert count_if_due(stored) == 0
    # As if the last event had been in the future.
    before = f"timestamptz '{NOW}' - interval '90 minutes'"
    execute(stored, f"update catalogue_counts set counted_at = {before}")
    assert count_if_due(stored) == len(ROWS)


def test_a_rebuild_counts_anew(stored: connection, repo: EventsRepo) -> None:
    execute(stored, "update catalogue_properties set events = 7")
    RollupWriter(stored, []).rebuild()
    assert rows(repo) == ROWS


def test_another_cluster_counts_anew(
    stored: connection, database_url: str, repo: EventsRepo
) -> None:
    insert(stored, ("w", "view", NOW - HOUR, {"plan": "pro"}))
    execute(stored, "update fold_state set cluster = cluster + 1")
    expected = [("pro", 3, 3), *PLAN[1:]]
    assert values(repo, "plan") == expected  # the counts of the other cluster lack one
    RollupWriter(stored, []).catch_up()
    assert is_counted(stored)
    assert values(repo, "plan") == expected
    assert rows(repo) == {**ROWS, "plan": (4, 3, {"text": 4})}
    assert [line for line in differences(database_url) if line.startswith("catalogue")] == []


def test_users_of_values_are_counted_in_parts(stored: connection, repo: EventsRepo) -> None:
    plans = ["pro", "free", "team"] * 20
    events = [(f"u{n % 30}", "view", NOW - HOUR, {"p": plan}) for n, plan in enumerate(plans)]
    insert(stored, *events)
    RollupWriter(stored, []).catch_up()
    execute(stored, "truncate catalogue_counts, catalogue_properties, catalogue_names")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count, "_MAX_PAIRS", 8)
        count_if_due(stored)
    assert is_counted(stored)
    assert values(repo, "p") == [(plan, 20, 10) for plan in ("free", "pro", "team")]
    for n in range(30):
        EraseRepo(stored).erase(f"u{n}")


def test_verify_compares_statistics_with_events(stored: connection, database_url: str) -> None:
    listed = [line for line in differences(database_url) if line.startswith("catalogue")]
    assert listed == []
    execute(stored, "update catalogue_properties set users = 1 where path = '{plan}'")
    execute(stored, "delete from catalogue_properties where path = '{n}'")
    execute(stored, "update catalogue_names set users = 7")
    (one, two, three) = [line for line in differences(database_url) if line.startswith("catalogue")]
    assert one == "catalogue_properties 'n': stored no row; expected events 1"
    assert two.startswith("catalogue_properties 'plan': stored events 3, users 1, first")
    assert three.startswith("catalogue_names 'view': stored users 7, events 3, ")


@pytest.fixture
def few_rows() -> Iterator[None]:
    """Rollups may read no row for an answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "MAX_ROWS", 0)
        patch.setattr(rollup_source, "COST_CHECK_ROWS", -1)
        yield


def test_very_many_event_names_are_counted_in_columns(
    stored: connection, few_rows: None, repo: EventsRepo
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cost, "MAX_ROWS", 500_000)
        expected = finished(repo.get_event_names(EventNames().query))
    insert(stored, ("w", "new", NOW, {}))
    assert finished(repo.get_event_names(EventNames().query)).data == expected.data
    execute(stored, "delete from catalogue_names")
    data = finished(repo.get_event_names(EventNames(starts="n").query)).data
    assert [(row.event_name, row.events, row.users) for row in data.rows] == [("new", 1, 1)]
    data = finished(repo.get_event_names(EventNames(limit=1).query)).data
    assert (data.event_names, data.rows) == (2, expected.data.rows)
