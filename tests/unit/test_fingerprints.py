"""Fingerprints of events differ if anything of the events does."""

from typing import Any

import numpy as np

from repo.verify.fingerprints import (
    EVENT_ID,
    EventRows,
    Property,
    concatenate,
    property_hashes,
    text_hashes,
)

PLAN = Property(("plan",), "text")


def rows(*times: int, **fields: int) -> EventRows:
    """Rows that differ in their times."""
    count = len(times)
    ids = np.frombuffer(bytes(range(16 * count)), EVENT_ID)
    user, name, xid = (np.full(count, fields.get(key, 1)) for key in ("user", "name", "xid"))
    hashes = np.full(count, fields.get("properties", 1), np.uint64)
    return EventRows(np.array(times), user, name, xid, ids, hashes)


def hashed(positions: list[int], texts: list[str], key: Property = PLAN) -> list[int]:
    hashes: list[int] = property_hashes(
        key, np.array(positions, np.int64), text_hashes(texts), 3
    ).tolist()
    return hashes


def test_each_field_counts() -> None:
    changes: list[dict[str, Any]] = [{}, {"user": 2}, {"name": 2}, {"xid": 2}, {"properties": 2}]
    found = {rows(5, **fields).fingerprints().tolist()[0] for fields in changes}
    assert len(found) == 5
    assert rows(5, user=2).fingerprints() == rows(5, user=2).fingerprints()
    assert len(set(rows(5, 5).fingerprints().tolist())) == 1
    assert len(set(rows(5, 5).with_ids().tolist())) == 2


def test_values_count_with_their_row_place_and_property() -> None:
    first, second, third = hashed([0, 0, 2], ["a", "b", "a"])
    assert second == 0
    assert len({first, third, 0}) == 3
    assert hashed([0, 0], ["b", "a"])[0] != first
    assert hashed([2], ["a"])[2] == third
    assert hashed([2], ["a"], Property(("plan",), "number"))[2] != third
    assert hashed([], []) == [0, 0, 0]


def test_rows_are_joined_and_selected() -> None:
    joined = concatenate([rows(1, 2), rows(3)])
    assert joined.time.tolist() == [1, 2, 3]
    assert joined.select(joined.time > 1).fingerprints().tolist() == [
        rows(2).fingerprints()[0],
        rows(3).fingerprints()[0],
    ]
    assert joined.has_id().tolist() == [True, True, True]
