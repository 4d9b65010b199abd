"""`verify` finds what is wrong with the columns of a chunk."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from psycopg2.extensions import connection

from repo.columns.chunk import Chunk
from tests.written_columns import (
    AMOUNT,
    PAID,
    PLAN,
    TAGS,
    changed,
    differences,
    field,
    first_increased,
    rewrite,
    with_rows,
    without,
)


def tied_swapped(ids: Any) -> Any:
    ids = ids.copy()
    rows = np.flatnonzero(ids != np.zeros((), ids.dtype))
    ids[rows] = ids[rows[::-1]]
    return ids


REWRITTEN: Mapping[str, tuple[Callable[[Chunk], Chunk], str]] = {
    "a time": (
        field("time", first_increased),
        "columns 2026-01-31T22:50:00.000001Z",
    ),
    "a user": (field("user", first_increased), "stored 0 events; expected 1 event"),
    "a name": (field("name", first_increased), "stored 0 events; expected 1 event"),
    "a transaction": (
        field("xid", first_increased),
        "stored other values of the transaction; expected those of the event",
    ),
    "the order of events": (
        field("time", lambda time: time[::-1]),
        "column_chunks chunk 1: stored events that are not ordered by time",
    ),
    "ids of events with the same user and time": (
        field("event_id", tied_swapped),
        "stored events of one user and time that are not ordered by their ids",
    ),
    "ids that are missing": (
        field("event_id", np.zeros_like),
        "stored events of one user and time that are not ordered by their ids",
    ),
    "the id of another event": (
        field("event_id", lambda ids: (ids.view(np.uint8) // 2).view(ids.dtype)),
        "stored another event_id; expected that of the event",
    ),
    "a text": (
        changed(PLAN, codes=lambda codes: np.roll(codes, 1)),
        "stored other values of 'plan' (text); expected those of the event",
    ),
    "a dictionary that is not sorted": (
        changed(PLAN, dictionary=lambda texts: pa.array(texts.to_pylist()[::-1], pa.string())),
        "stored column 'plan' (text) with a dictionary that is not sorted",
    ),
    "a text that no event has": (
        changed(PLAN, dictionary=lambda texts: pa.array([*texts.to_pylist(), "zzz"], pa.string())),
        "stored column 'plan' (text) with a dictionary with values that no event has",
    ),
    "codes beyond the dictionary": (
        changed(PLAN, codes=lambda codes: codes + 1),
        "stored column 'plan' (text) with codes beyond its dictionary",
    ),
    "the order of a list": (
        changed(TAGS, codes=lambda codes: codes[::-1]),
        "stored other values of 'items.tags' (text); expected those of the event",
    ),
    "a number": (
        changed(AMOUNT, scaled=lambda scaled: np.roll(scaled, 1)),
        "stored other values of 'amount' (number); expected those of the event",
    ),
    "the scale of numbers": (
        changed(AMOUNT, scale=lambda scale: scale + 1),
        "stored other values of 'amount' (number); expected those of the event",
    ),
    "a boolean": (
        changed(PAID, values=lambda values: ~values),
        "stored other values of 'paid' (boolean); expected those of the event",
    ),
    "the events that have values": (
        with_rows(AMOUNT, lambda rows: rows - 1 + (rows == rows[0])),
        "stored other values of 'amount' (number); expected those of the event",
    ),
    "rows beyond the events": (
        with_rows(AMOUNT, lambda rows: rows + 100),
        "stored column 'amount' (number) with rows beyond 203 events",
    ),
    "rows that are not ascending": (
        with_rows(AMOUNT, lambda rows: rows[::-1]),
        "stored column 'amount' (number) with rows that are not ascending",
    ),
    "a column that is missing": (
        without(PAID),
        "stored other values of 'paid' (boolean); expected those of the event",
    ),
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_difference_in_columns_is_found(written: connection, written_url: str, name: str) -> None:
    change, line = REWRITTEN[name]
    rewrite(written, change)
    reported = differences(written_url)
    assert any(line in each for each in reported), reported
