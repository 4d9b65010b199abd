"""Read and write the rows of slots and sealed spans, whose users are roaring bitmaps."""

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from psycopg2.extensions import cursor
from pyroaring import BitMap

from repo.rollups.aggregate import Delta, Key, merge_deltas
from repo.statements import statements
from utils.copy_binary import decode, encode
from utils.time.slots import Span

SQL = statements("fold")


def copy_out(cur: cursor, statement: str, params: Mapping[str, Any] | None = None) -> bytes:
    """Return the output of a `COPY ... TO STDOUT`."""
    buffer = io.BytesIO()
    cur.copy_expert(cur.mogrify(statement, params).decode(), buffer)
    return buffer.getvalue()


def span_params(spans: Iterable[Span]) -> dict[str, list[int]]:
    """Return spans as parameters of statements."""
    listed = list(spans)
    return {"starts": [span.start for span in listed], "ends": [span.end for span in listed]}


def write_slots(cur: cursor, generation: int, rows: Mapping[Key, Delta]) -> None:
    """Store rows of slots, replacing existing ones."""
    encodable = ((*key, row.events, row.users.serialize()) for key, row in rows.items())
    _write(cur, "slots", generation, encode(encodable, "iiqb"))


def read_slots(
    cur: cursor, generation: int, slots: Sequence[int]
) -> Iterator[tuple[Key, int, bytes]]:
    """Yield the key, the events and the serialized set of users of each row of these slots."""
    params = {"generation": generation, "slots": slots}
    for slot, name_id, *row in decode(copy_out(cur, SQL["fold_read_slots"], params), "iiqb"):
        yield (slot, name_id), *row


def read_sealed_spans(cur: cursor, generation: int, span: Span) -> list[Span]:
    """Return the sealed spans that overlap this one."""
    cur.execute(SQL["fold_overlapping_spans"], {"generation": generation, **span._asdict()})
    return [Span(*row) for row in cur]


def sum_by_name(parts: Iterable[tuple[int, Delta]]) -> dict[int, Delta]:
    """Return the sum of the deltas of each `name_id`."""
    deltas: dict[int, list[Delta]] = defaultdict(list)
    for name_id, part in parts:
        deltas[name_id].append(part)
    return {name_id: merge_deltas(named_deltas) for name_id, named_deltas in deltas.items()}


def read_spans(cur: cursor, generation: int, spans: Sequence[Span]) -> dict[Span, dict[int, Delta]]:
    """Return the rows of sealed spans by span and `name_id`."""
    rows_by_span: dict[Span, dict[int, Delta]] = {span: {} for span in spans}
    params = {"generation": generation, **span_params(spans)}
    rows = decode(copy_out(cur, SQL["fold_read_spans"], params), "iiiqb")
    for start, end, name_id, events, users in rows:
        rows_by_span[Span(start, end)][name_id] = Delta(events, BitMap.deserialize(users))
    return rows_by_span


def write_spans(
    cur: cursor, generation: int, version: int, spans: Mapping[Span, Mapping[int, Delta]]
) -> None:
    """Store the rows of spans, replacing existing ones, and mark the spans as sealed."""
    rows = (
        (*span, name_id, delta.events, delta.users.serialize())
        for span, names in spans.items()
        for name_id, delta in names.items()
    )
    _write(cur, "spans", generation, encode(rows, "iiiqb"))
    params = {"generation": generation, "version": version, **span_params(spans)}
    cur.execute(SQL["fold_seal"], params)


def _write(cur: cursor, table: str, generation: int, rows: bytes) -> None:
    # COPY cannot replace rows, so they go through a temporary table.
    cur.copy_expert(SQL[f"fold_copy_{table}"], io.BytesIO(rows))
    cur.execute(SQL[f"fold_write_{table}"], {"generation": generation})
