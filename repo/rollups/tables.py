"""Reading and writing slots and sealed spans: what is added is merged into what is there."""

import io
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from psycopg2.extensions import cursor
from pyroaring import BitMap

from repo.rollups.batch import Delta, Key, together
from repo.rollups.binary import decode, encode
from repo.statements import statements
from utils.slots import Span

SQL = statements("fold")


def copied(cur: cursor, statement: str, given: Mapping[str, Any] | None = None) -> bytes:
    """What a COPY ... TO STDOUT gives."""
    sent = io.BytesIO()
    cur.copy_expert(cur.mogrify(statement, given).decode(), sent)
    return sent.getvalue()


def edges(spans: Iterable[Span]) -> dict[str, list[int]]:
    """As statements take them."""
    given = list(spans)
    return {"starts": [span.start for span in given], "ends": [span.end for span in given]}


def add_slots(cur: cursor, generation: int, deltas: dict[Key, Delta]) -> None:
    """Changes the deltas to what the rows hold then."""
    slots = sorted({slot for slot, _ in deltas})
    for key, events, users in read_slots(cur, generation, slots):
        if delta := deltas.get(key):
            delta.add(events, BitMap.deserialize(users))
    write_slots(cur, generation, deltas)


def write_slots(cur: cursor, generation: int, rows: Mapping[Key, Delta]) -> None:
    """Store these in the place of what is there."""
    written = ((*key, row.events, row.users.serialize()) for key, row in rows.items())
    _write(cur, "slots", generation, encode(written, "iiqb"))


def read_slots(
    cur: cursor, generation: int, slots: Sequence[int]
) -> Iterator[tuple[Key, int, bytes]]:
    """Slots as they are: events, and the set of users as it is stored."""
    given = {"generation": generation, "slots": slots}
    for slot, name_id, *row in decode(copied(cur, SQL["fold_read_slots"], given), "iiqb"):
        yield (slot, name_id), *row


def add_spans(cur: cursor, generation: int, version: int, deltas: Mapping[Key, Delta]) -> bool:
    """Add late events to the sealed spans that hold their slots; whether there were any."""
    ordered = sorted(deltas)
    reach = Span(ordered[0][0], ordered[-1][0] + 1)
    late: dict[Span, dict[int, Delta]] = {}
    for span in sealed_in(cur, generation, reach):
        held = ordered[bisect_left(ordered, (span.start, 0)) : bisect_left(ordered, (span.end, 0))]
        if held:
            late[span] = summed((name, deltas[slot, name]) for slot, name in held)
    if late:
        _merge(cur, generation, late)
        write_spans(cur, generation, version, late)
    return bool(late)


def sealed_in(cur: cursor, generation: int, reach: Span) -> list[Span]:
    """Sealed spans that reach into this one."""
    cur.execute(SQL["fold_sealed"], {"generation": generation, **reach._asdict()})
    return [Span(*row) for row in cur]


def summed(parts: Iterable[tuple[int, Delta]]) -> dict[int, Delta]:
    """By name_id."""
    deltas: dict[int, list[Delta]] = defaultdict(list)
    for name_id, part in parts:
        deltas[name_id].append(part)
    return {name_id: together(some) for name_id, some in deltas.items()}


def read_spans(cur: cursor, generation: int, spans: Sequence[Span]) -> dict[Span, dict[int, Delta]]:
    """Sealed spans as they are."""
    read: dict[Span, dict[int, Delta]] = {span: {} for span in spans}
    given = {"generation": generation, **edges(spans)}
    rows = decode(copied(cur, SQL["fold_read_spans"], given), "iiiqb")
    for start, end, name_id, events, users in rows:
        read[Span(start, end)][name_id] = Delta(events, BitMap.deserialize(users))
    return read


def write_spans(
    cur: cursor, generation: int, version: int, spans: Mapping[Span, Mapping[int, Delta]]
) -> None:
    """Store these, sealed."""
    rows = (
        (*span, name_id, delta.events, delta.users.serialize())
        for span, names in spans.items()
        for name_id, delta in names.items()
    )
    _write(cur, "spans", generation, encode(rows, "iiiqb"))
    sealed = {"generation": generation, "version": version, **edges(spans)}
    cur.execute(SQL["fold_seal"], sealed)


def _merge(cur: cursor, generation: int, late: dict[Span, dict[int, Delta]]) -> None:
    for span, names in read_spans(cur, generation, list(late)).items():
        for name_id, there in names.items():
            if delta := late[span].get(name_id):
                delta.add(there.events, there.users)


def _write(cur: cursor, table: str, generation: int, rows: bytes) -> None:
    cur.copy_expert(SQL[f"fold_copy_{table}"], io.BytesIO(rows))
    cur.execute(SQL[f"fold_write_{table}"], {"generation": generation})
