"""Events in columns that `verify` compares, and changes of what is stored of them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg2.extensions import connection

from commands.verify import verify_all
from config.database import Cursor
from repo.columns.chunk import Chunk, ColumnKey
from repo.columns.chunk_table import all_paths, read_all_columns
from repo.columns.codec import decode_chunk, encode_chunk
from repo.columns.consumer import Consumer
from repo.rollups.rollup_writer import RollupWriter

PLAN = ColumnKey(("plan",), "text")
TAGS = ColumnKey(("items", "tags"), "text")
AMOUNT = ColumnKey(("amount",), "number")
PAID = ColumnKey(("paid",), "boolean")

OLD = datetime(2026, 1, 31, 22, 50, tzinfo=UTC)
NOW = datetime.now(UTC)
UNLOCKED = (
    "set session_replication_role = replica; "
    "alter table events drop constraint events_ingested_xid_is_its_own; "
)
"""Events cannot be changed."""


def events() -> Iterator[tuple[str, str, datetime, dict[str, Any]]]:
    for n in range(200):
        properties = {"plan": ("pro", "free")[n % 2], "amount": n / 4, "n": n, "paid": n % 3 == 0}
        yield f"u{n % 7}", ("view", "buy")[n % 2], OLD + timedelta(hours=7 * n), properties
    items = [{"sku": "a", "tags": ["x", "y", 1]}, {"sku": "b"}, None]
    yield "", "view", OLD, {"items": items, "none": None, "empty": {}, "plan": 5}
    yield "u1", "view", OLD, {"plan": "ties", "text": "\u00e4\u2028\U0001f600", "": {"": 1}}
    yield "u1", "view", OLD, {"plan": "ties"}


def fold(conn: connection) -> None:
    writer = RollupWriter(conn, [])
    while writer.step().has_more:
        pass


def consume(conn: connection, **limits: Any) -> None:
    consumer = Consumer(conn, 2_000, **limits)
    while consumer.step(is_lazy=False):
        pass


def differences(url: str) -> list[str]:
    return [str(difference) for difference in verify_all(url, []).listed]


def execute(conn: connection, text: str, *values: object) -> int:
    with conn.cursor() as cur:
        cur.execute(text, values or None)
        return cur.rowcount


def column_differences(url: str) -> list[str]:
    return [line for line in differences(url) if line.startswith("column")]


def rewrite(conn: connection, change: Callable[[Chunk], Chunk]) -> None:
    """Change the columns of all chunks."""
    with conn.cursor(cursor_factory=Cursor) as cur:
        path_ids = all_paths(cur, 1)
        paths = {path_id: path for path, path_id in path_ids.items()}
        rows = list(read_all_columns(cur, 1, [1]))
        chunk = change(decode_chunk({row.column: bytes(row.data) for row in rows}, paths))
        for (path_id, kind), data in encode_chunk(chunk, path_ids).items():
            cur.execute(
                "update column_data set data = %s where (path_id, kind) = (%s, %s)",
                (data, path_id, kind),
            )


def changed(key: ColumnKey, **parts: Any) -> Callable[[Chunk], Chunk]:
    """Change parts of the values of a property; each is a function of its array."""

    def change(chunk: Chunk) -> Chunk:
        column = chunk.properties[key]
        values = {name: change(getattr(column.values, name)) for name, change in parts.items()}
        new = replace(column, values=replace(column.values, **values))
        return replace(chunk, properties={**chunk.properties, key: new})

    return change


def first_increased(array: Any) -> Any:
    array = array.copy()
    array[0] += 1
    return array


def field(name: str, change: Callable[[Any], Any]) -> Callable[[Chunk], Chunk]:
    return lambda chunk: replace(chunk, **{name: change(getattr(chunk, name))})


def with_rows(key: ColumnKey, change: Callable[[Any], Any]) -> Callable[[Chunk], Chunk]:
    def change_rows(chunk: Chunk) -> Chunk:
        column = chunk.properties[key]
        new = replace(column, rows=change(column.rows))
        return replace(chunk, properties={**chunk.properties, key: new})

    return change_rows


def without(key: ColumnKey) -> Callable[[Chunk], Chunk]:
    def change(chunk: Chunk) -> Chunk:
        properties = {name: column for name, column in chunk.properties.items() if name != key}
        return replace(chunk, properties=properties)

    return change
