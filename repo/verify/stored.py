"""What slots and spans hold, as the tables have it."""

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from psycopg2.extensions import cursor

from repo.verify.snapshot import SQL, Span, State, copied

_SIGNATURE = 19  # bytes before the first row of COPY's binary format
_LAST = 2  # bytes that end it
_ROW = struct.Struct("!hiiiiiiiqi")  # each column after its length, the bitmap after this


class Stored(NamedTuple):
    """A row of slots or spans."""

    events: int
    bitmap: bytes


Held = Mapping[Span, Mapping[int, Stored]]
"""By place and name_id. A slot is a span of one."""


def stored_slots(cur: cursor, state: State, piece: Span) -> Held:
    given = {"generation": state.generation, **piece._asdict()}
    return _held(copied(cur, SQL["verify_slots"], given))


def stored_slots_of(cur: cursor, state: State, whole: Span, name_id: int) -> Held:
    """Of one name alone."""
    given = {"generation": state.generation, "name_id": name_id, **whole._asdict()}
    return _held(copied(cur, SQL["verify_slots_of_name"], given))


def stored_spans(cur: cursor, state: State, spans: Iterable[Span]) -> Held:
    wanted = list(spans)
    given = {
        "generation": state.generation,
        "starts": [span.start for span in wanted],
        "ends": [span.end for span in wanted],
    }
    return _held(copied(cur, SQL["verify_spans"], given)) if wanted else {}


def _held(sent: bytes) -> Held:
    held: dict[Span, dict[int, Stored]] = defaultdict(dict)
    at, end = _SIGNATURE, len(sent) - _LAST
    while at < end:
        _, _, start, _, after, _, name_id, _, events, size = _ROW.unpack_from(sent, at)
        at += _ROW.size
        held[Span(start, after)][name_id] = Stored(events, sent[at : at + size])
        at += size
    return held
