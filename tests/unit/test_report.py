"""Differences between stored and recounted rows, as lines of text."""

import numpy as np
from pyroaring import BitMap

from repo.verify.recount import ALL, UNKNOWN, Row
from repo.verify.report import MAX_LISTED, Difference, Findings, compare, format_span
from repo.verify.snapshot import Span
from repo.verify.stored_rows import StoredRow

SLOT = Span(1_051_872, 1_051_873)
NAMES = {1: "view"}


def true(events: int, *users: int) -> Row:
    return Row(events, np.array(users, np.uint32))


def stored(events: int, *users: int) -> StoredRow:
    return StoredRow(events, BitMap(users).serialize())


def differences(true_rows: dict[int, Row], stored_rows: dict[int, StoredRow]) -> list[str]:
    findings = Findings()
    compare(findings, "slots", SLOT, true_rows, stored_rows, NAMES.get)
    assert findings.differences == len(findings.listed)
    assert findings.rows == len(true_rows.keys() | stored_rows.keys())
    return [str(difference) for difference in findings.listed]


def test_equal_rows_are_no_difference() -> None:
    assert differences({ALL: true(2, 5, 6)}, {ALL: stored(2, 5, 6)}) == []


def test_a_difference_names_row_events_and_users() -> None:
    (line,) = differences({1: true(3, 5, UNKNOWN)}, {1: stored(2, 5, 6)})
    assert line == (
        "slots 2000-01-01T00:00Z/2000-01-01T00:15Z 'view': "
        "stored 2 events, 2 users (with 6); "
        "expected 3 events, 2 users (with one without an ordinal)"
    )


def test_missing_rows_are_named() -> None:
    assert differences({ALL: true(1, 5)}, {2: stored(1, 5)}) == [
        "slots 2000-01-01T00:00Z/2000-01-01T00:15Z all names: "
        "stored no row; expected 1 event, 1 user",
        "slots 2000-01-01T00:00Z/2000-01-01T00:15Z name_id 2 (not in event_names): "
        "stored 1 event, 1 user; expected no row",
    ]


def test_a_bitmap_that_cannot_be_read_is_a_difference() -> None:
    (line,) = differences({ALL: true(1, 5)}, {ALL: StoredRow(1, b"abc")})
    assert "stored 1 event, a bitmap that cannot be read" in line


def test_all_differences_count_and_the_first_are_listed() -> None:
    findings = Findings()
    for n in range(MAX_LISTED + 5):
        findings.add(Difference("slots", str(n), "a", "b"))
    assert (findings.differences, len(findings.listed)) == (105, 100)
    assert findings.listed[-1].key == "99"


def test_slots_outside_of_calendars_are_numbers() -> None:
    assert format_span(Span(0, 2**31 - 1)) == "1970-01-01T00:00Z/slot 2147483647"
