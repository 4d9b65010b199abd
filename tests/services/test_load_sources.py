"""`python main.py load`: nothing of a row is lost without a word."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from click.testing import Result
from psycopg2.extensions import connection
from pyarrow import parquet

from tests.adoption import run_sql
from tests.cli import run_cli
from tests.factories import ID, event

Load = Callable[..., Result]

HEADER = "event_id,user_id,event_name,occurred_at,properties\n"


@pytest.fixture
def load(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Load:
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "DATABASE_URL": database_url, "REDIS_URL": redis_url}
    return lambda *arguments: run_cli("load", *arguments, **environment)


def write(path: str, *lines: Any) -> None:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    Path(path).write_text("".join(text + "\n" for text in texts))


def nested(n: int, user: Any = ..., **other: Any) -> dict[str, Any]:
    """An event whose user is an object, or whatever is given."""
    user_value = {"id": f"u{n}"} if user is ... else user
    return event(n, user_id=..., user=user_value, **other)


def users(conn: connection) -> list[str]:
    return [user for (user,) in run_sql(conn, "select user_id from events order by event_id")]


def test_a_source_may_be_a_path(load: Load, conn: connection) -> None:
    write("a.ndjson", *map(nested, range(700)))
    done = load("a.ndjson", "--map", "user_id=user.id")
    assert done.stdout == "a.ndjson: read 700, inserted 700, already there 0, rejected 0\n"
    assert users(conn) == [f"u{n}" for n in range(700)]


def test_what_is_beside_a_path_is_named_or_ignored(load: Load, conn: connection) -> None:
    write("a.ndjson", nested(1, {"id": 7, "mail": "m", "more": {"deep": [1]}}))
    refused = load("a.ndjson", "--map", "user_id=user.id", "--ignore", "user.more")
    assert "not mapped: key user.mail (store properties" in refused.stderr
    assert users(conn) == []
    sources = ("--map", "user_id=user.id", "--map", "properties=user.more")
    assert load("a.ndjson", *sources, "--ignore", "user.mail", "--ignore", "properties")
    assert run_sql(conn, "select user_id, properties from events") == [("7", {"deep": [1]})]


def test_a_key_with_a_dot_stands_in_quotes(load: Load, conn: connection) -> None:
    write("a.ndjson", event(1, user_id=..., **{"user.id": "dotted"}))
    assert load("a.ndjson", "--map", 'user_id="user.id"').exit_code == 0
    write(
        "b.csv",
        HEADER.replace("user_id", "user.id").strip(),
        f"{ID.format(2)},column,view,2025-01-01T00:00:00Z,",
    )
    assert load("b.csv", "--map", "user_id=user.id").exit_code == 0
    assert load("b.csv", "--map", 'user_id="user.id"').exit_code == 0
    assert users(conn) == ["dotted", "column"]


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("user.ident", "did you mean user.id? there are event_id, event_name, occurred_at, "),
        ("usr", "did you mean user.id? there are "),
        ("nothing.at.all", "; there are event_id, event_name"),
    ],
)
def test_a_source_that_no_line_has_is_refused_before_the_first_insert(
    load: Load, conn: connection, source: str, hint: str
) -> None:
    write("a.ndjson", *map(nested, range(12_000)))
    done = load("a.ndjson", "--map", f"user_id={source}")
    assert done.exit_code == 1
    assert done.stdout == ""
    expected = f"a.ndjson: none of the first 10,000 rows has {source}, which is mapped to user_id"
    assert done.stderr.startswith(expected)
    assert hint in done.stderr
    assert done.stderr.count("\n") == 1
    assert users(conn) == []


def test_a_source_that_some_lines_lack_is_counted(load: Load, conn: connection) -> None:
    lines = [nested(0, None), nested(1, {}), event(2, user_id=...), *map(nested, range(3, 900))]
    write("a.ndjson", *lines)
    done = load("a.ndjson", "--map", "user_id=user.id")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "a.ndjson: read 900, inserted 900, already there 0, rejected 0",
        "  3 without user.id, the source of user_id",
    ]
    assert users(conn) == ["", "", "", *(f"u{n}" for n in range(3, 900))]


def test_a_source_that_comes_late_is_found(load: Load, conn: connection) -> None:
    lines = [event(n, user_id=...) for n in range(3_000)]
    write("a.ndjson", *lines, event(3_000, user_id=..., visitor="v"))
    done = load("a.ndjson", "--map", "user_id=visitor")
    assert "inserted 3,001" in done.stdout
    assert "3,000 without visitor" in done.stdout
    assert users(conn)[-1] == "v"


def test_an_object_is_stored_without_the_keys_that_are_fields(load: Load, conn: connection) -> None:
    write("a.ndjson", nested(1, {"id": 7, "mail": "m"}, properties=...))
    done = load("a.ndjson", "--map", "user_id=user.id", "--map", "properties=user")
    assert done.exit_code == 0
    assert run_sql(conn, "select user_id, properties from events") == [("7", {"mail": "m"})]


def test_a_source_that_is_no_path_is_refused(load: Load) -> None:
    write("a.ndjson", nested(1))
    broken = load("a.ndjson", "--map", "user_id=user..id")
    assert broken.exit_code == 1
    assert "user..id is not a path of keys" in broken.stderr


def test_keys_may_have_any_characters(load: Load, conn: connection) -> None:
    write("a.ndjson", event(1, user_id=..., **{"a\\b": "u"}))
    assert load("a.ndjson", "--map", r"user_id=a\b").exit_code == 0
    assert users(conn) == ["u"]


GOOD = json.dumps(event(1))
TWICE = {
    "of the line": GOOD.replace('"user_id": "u1"', '"user_id": "u1", "user_id": "u2"'),
    "of the line, its second in other letters": GOOD.replace(
        '"user_id": "u1"', '"user_id": "u1", "user\\u005fid": "u2"'
    ),
    "of the line, and a colon in other letters": GOOD.replace(
        '"user_id": "u1"', '"user_id": "u\\u003a", "user_id": "u2"'
    ),
    "of properties": GOOD.replace('{"n": 1}', '{"n": 1, "n": 2}'),
    "deep inside": GOOD.replace('{"n": 1}', '{"a": [{"n" : 1, "n": {"b:": ":"}}]}'),
}


@pytest.mark.parametrize("line", TWICE.values(), ids=TWICE)
def test_a_key_that_comes_twice_is_refused(load: Load, conn: connection, line: str) -> None:
    others = [event(n) for n in range(2, 800)]
    write("a.ndjson", *others, line)
    done = load("a.ndjson")
    assert "read 799, inserted 798, already there 0, rejected 1" in done.stdout
    assert "1 rejected: the line must not have a key twice" in done.stdout
    assert len(users(conn)) == 798


NUMBERS = ["1e400", "-1e400", "1.8e308", "9" * 309, "9" * 309 + ".5"]


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_that_no_float_can_hold_are_refused(
    load: Load, conn: connection, number: str
) -> None:
    properties = f'{{"a": [{number}]}}'
    write("a.ndjson", GOOD.replace('{"n": 1}', properties), event(2, properties={"n": 1.7e308}))
    quoted = properties.replace('"', '""')
    Path("b.csv").write_text(f'{HEADER}{ID.format(3)},u,view,2025-01-01T00:00:00Z,"{quoted}"\n')
    table = {
        name: [text]
        for name, text in zip(
            HEADER.strip().split(","),
            (ID.format(4), "u", "view", "2025-01-01T00:00:00Z", properties),
            strict=True,
        )
    }
    parquet.write_table(pyarrow.table(table), "c.parquet")
    done = load("a.ndjson", "b.csv", "c.parquet")
    assert done.stdout.count("1 rejected: properties must not hold numbers beyond 1.8e308") == 3
    assert len(users(conn)) == 1


def test_properties_of_csv_and_parquet_have_no_key_twice(load: Load, conn: connection) -> None:
    row = f"{ID.format(1)},u,view,2025-01-01T00:00:00Z,"
    Path("a.csv").write_text(f'{HEADER}{row}"{{""a"":1,""a"":2}}"\n')
    assert "1 rejected: properties must not have a key twice" in load("a.csv").stdout
    kind = pyarrow.map_(pyarrow.string(), pyarrow.int64())
    table = {
        name: [text] for name, text in zip(HEADER.split(","), row.split(",")[:4], strict=False)
    }
    table["properties"] = pyarrow.array([[("a", 1), ("a", 2)]], kind)
    parquet.write_table(pyarrow.table(table), "b.parquet")
    assert "1 rejected: properties must not have a key twice" in load("b.parquet").stdout
    assert users(conn) == []


@pytest.mark.parametrize("rows", [4, 900])
def test_an_unquoted_null_of_csv_is_no_value(load: Load, conn: connection, rows: int) -> None:
    instant = "2025-01-01T00:00:00Z"
    texts = [
        rf"{ID.format(0)},\N,view,{instant},\N",
        rf'{ID.format(1)},"\N","\N",{instant},"{{}}"',
        rf'{ID.format(2)},a\N,"say ""\N"" now",{instant},\N',
        rf'{ID.format(3)},"a' + "\n" + rf'\N,""\N""",\N,{instant},\N',
        *(f"{ID.format(n)},u,view,{instant},{{}}" for n in range(4, rows)),
    ]
    Path("a.csv").write_text(HEADER + "".join(text + "\n" for text in texts))
    done = load("a.csv")
    assert f"read {rows}, inserted {rows - 1}, already there 0, rejected 1" in done.stdout
    assert "1 rejected: event_name is missing" in done.stdout
    result_rows = run_sql(
        conn, "select user_id, event_name, properties from events order by event_id"
    )
    assert result_rows[:3] == [
        ("", "view", {}),
        (r"\N", r"\N", {}),
        (r"a\N", r'say "\N" now', {}),
    ]


def test_lists_of_pairs_and_maps_of_parquet_are_objects(load: Load, conn: connection) -> None:
    text, number = pyarrow.string(), pyarrow.int64()
    value = pyarrow.struct(
        [("string_value", text), ("int_value", number), ("double_value", pyarrow.float64())]
    )
    pairs = pyarrow.list_(pyarrow.struct([("key", text), ("value", value)]))
    kinds: dict[str, tuple[Any, list[Any], list[Any]]] = {
        "ga4": (
            pairs,
            [
                [
                    {"key": "page", "value": {"string_value": "/a"}},
                    {"key": "n", "value": {"int_value": 0}},
                    {"key": "x", "value": {"double_value": 1.5}},
                    {"key": "none", "value": {}},
                    {"key": "null", "value": None},
                ],
                [],
                None,
            ],
            [{"page": "/a", "n": 0, "x": 1.5, "none": None, "null": None}, {}, {}],
        ),
        "plain": (
            pyarrow.list_(pyarrow.struct([("key", text), ("value", number)])),
            [[{"key": "a", "value": 1}, {"key": "b", "value": 2}]],
            [{"a": 1, "b": 2}],
        ),
        "map": (
            pyarrow.map_(text, pyarrow.map_(number, pyarrow.list_(text))),
            [[("a", [(1, ["x"]), (2, None)])]],
            [{"a": {"1": ["x"], "2": None}}],
        ),
        "struct": (
            pyarrow.struct([("m", pyarrow.map_(text, number)), ("l", pyarrow.list_(pairs))]),
            [{"m": [("a", 1)], "l": [[{"key": "k", "value": {"int_value": 2}}]]}],
            [{"m": {"a": 1}, "l": [{"k": 2}]}],
        ),
    }
    for kind, column_values, expected in kinds.values():
        run_sql(conn, "set analytics.reason = 'erase'; delete from events")
        ids = [ID.format(n) for n in range(len(column_values))]
        table = pyarrow.table(
            {
                "event_id": ids,
                "event_name": ["view"] * len(column_values),
                "occurred_at": ["2025-01-01T00:00:00Z"] * len(column_values),
                "properties": pyarrow.array(column_values, kind),
            }
        )
        parquet.write_table(table, "a.parquet")
        done = load("a.parquet")
        assert done.exit_code == 0, done.stdout
        result_rows = run_sql(conn, "select properties from events order by event_id")
        assert [properties for (properties,) in result_rows] == expected


@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("key", [pyarrow.string(), pyarrow.int64()])
def test_a_key_of_parquet_that_is_null_is_rejected(
    load: Load, conn: connection, key: pyarrow.DataType, is_nested: bool
) -> None:
    """In a list of pairs, or in a map within one; a Parquet map itself can have none."""
    kind: Any = pyarrow.list_(pyarrow.struct([("key", key), ("value", pyarrow.int64())]))
    pairs = [[{"key": None, "value": 1}], [{"key": 1 if key == pyarrow.int64() else "a"}], [None]]
    column_values: list[Any] = pairs
    if is_nested:
        kind = pyarrow.map_(pyarrow.string(), kind)
        column_values = [[("m", value)] for value in pairs]
    table = {
        "event_id": [ID.format(n) for n in range(3)],
        "event_name": ["view"] * 3,
        "occurred_at": ["2025-01-01T00:00:00Z"] * 3,
        "properties": pyarrow.array(column_values, kind),
    }
    parquet.write_table(pyarrow.table(table), "a.parquet")
    done = load("a.parquet")
    assert "1 rejected: properties must not have a key that is null" in done.stdout
    name = "1" if key == pyarrow.int64() else "a"
    objects = [{name: None}, {}]
    expected = [{"m": value} for value in objects] if is_nested else objects
    stored = run_sql(conn, "select properties from events order by event_id")
    assert [properties for (properties,) in stored] == expected


NS = pyarrow.timestamp("ns", "UTC")
INSTANT = 1_740_000_000_123_456_789
CUT = "2025-02-19 21:20:00.123456+00:00"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (NS, INSTANT, CUT),
        (
            pyarrow.struct([("t", NS), ("n", pyarrow.int64())]),
            {"t": INSTANT},
            {"t": CUT, "n": None},
        ),
        (pyarrow.map_(pyarrow.string(), NS), [("t", INSTANT)], {"t": CUT}),
        (pyarrow.list_(NS), [INSTANT, None], [CUT, None]),
        (pyarrow.large_list(pyarrow.list_(NS, 1)), [[INSTANT]], [[CUT]]),
        (
            pyarrow.list_(pyarrow.struct([("key", pyarrow.string()), ("value", NS)])),
            [{"key": "t", "value": INSTANT}],
            {"t": CUT},
        ),
    ],
    ids=str,
)
def test_nanoseconds_of_parquet_are_cut_at_any_depth(
    load: Load, conn: connection, kind: pyarrow.DataType, value: Any, expected: Any
) -> None:
    table = {
        "event_id": [ID.format(1)],
        "event_name": ["view"],
        "occurred_at": pyarrow.array([INSTANT], NS),
        "properties": pyarrow.array([{"a": value}], pyarrow.struct([("a", kind)])),
    }
    parquet.write_table(pyarrow.table(table), "a.parquet")
    done = load("a.parquet")
    assert done.exit_code == 0, done.stdout
    assert run_sql(conn, "select properties from events") == [({"a": expected},)]


def test_a_time_of_parquet_that_is_out_of_range_is_rejected(load: Load) -> None:
    """Its microseconds do not fit into 64 bits, where the rest of them would be of 2020."""
    milliseconds = (2**65 + 1_600_000_000_000_000) // 1000
    table = {
        "event_id": [ID.format(1)],
        "event_name": ["view"],
        "occurred_at": pyarrow.array([milliseconds], pyarrow.timestamp("ms", "UTC")),
    }
    parquet.write_table(pyarrow.table(table), "a.parquet")
    assert "inserted 0, already there 0, rejected 1" in load("a.parquet").stdout


def test_other_lists_of_parquet_are_no_objects(load: Load) -> None:
    for kind, column_values in (
        (pyarrow.list_(pyarrow.list_(pyarrow.int64())), [[[1, 2]]]),
        (
            pyarrow.list_(pyarrow.struct([("a", pyarrow.string()), ("b", pyarrow.string())])),
            [[{"a": "x", "b": "y"}]],
        ),
    ):
        table = {
            "event_id": [ID.format(1)],
            "event_name": ["view"],
            "occurred_at": ["2025-01-01T00:00:00Z"],
            "properties": pyarrow.array(column_values, kind),
        }
        parquet.write_table(pyarrow.table(table), "a.parquet")
        assert "1 rejected: properties must be an object" in load("a.parquet").stdout


BERLIN = [
    ("2025-03-30T01:59:59", "2025-03-30 00:59:59+00"),
    ("2025-03-30T02:00:00", "2025-03-30 01:00:00+00"),  # left out: 3:00 in summer time
    ("2025-03-30T02:30:00", "2025-03-30 01:30:00+00"),
    ("2025-03-30T03:00:00", "2025-03-30 01:00:00+00"),
    ("2025-10-26T01:59:59", "2025-10-25 23:59:59+00"),
    ("2025-10-26T02:00:00", "2025-10-26 00:00:00+00"),  # twice: the first is in summer time
    ("2025-10-26T02:59:59", "2025-10-26 00:59:59+00"),
    ("2025-10-26T03:00:00", "2025-10-26 02:00:00+00"),
]


def test_local_times_are_the_first_of_two_and_moved_forward(load: Load, conn: connection) -> None:
    write("a.ndjson", *(event(n, occurred_at=local) for n, (local, _) in enumerate(BERLIN)))
    done = load("a.ndjson", "--tz", "Europe/Berlin")
    assert done.stdout.splitlines() == [
        "a.ndjson: read 8, inserted 8, already there 0, rejected 0",
        "  2 with a local time in a skipped hour: moved forward",
        "  2 with a local time in a repeated hour: the first one was used",
    ]
    result_rows = run_sql(
        conn, "select (occurred_at at time zone 'UTC')::text || '+00' from events order by event_id"
    )
    assert [instant for (instant,) in result_rows] == [moment for _, moment in BERLIN]
