"""The comparison of an adopted table with the events, from the rows of its report."""

from collections import Counter
from datetime import date

import pytest

from repo.adopt.adoption import ReportRow
from services.lifecycle.adoption import Day, compare_rows

FIRST, SECOND = date(2026, 1, 1), date(2026, 1, 2)


def test_rows_are_counted_by_day_and_state() -> None:
    comparison = compare_rows(
        [
            ReportRow(FIRST, "event", 10, 8),
            ReportRow(FIRST, "suppressed", 3, 0),
            ReportRow(SECOND, "event", 5, 5),
            ReportRow(None, "event_name is missing", 2, 0),
        ]
    )
    assert comparison.days == {
        FIRST: Day(13, 8, Counter(taken=2, suppressed=3)),
        SECOND: Day(5, 5, Counter(taken=0)),
    }
    assert comparison.rejected == {"event_name is missing": 2}
    assert (comparison.total.rows, comparison.total.events) == (20, 13)


@pytest.mark.parametrize(
    ("state", "rows", "events", "is_consistent"),
    [
        ("event", 4, 4, True),
        ("event", 4, 3, False),
        ("missing", 1, 0, False),
        ("suppressed", 1, 0, True),
        ("expired", 1, 0, True),
    ],
)
def test_a_day_is_consistent_without_missing_and_taken_rows(
    state: str, rows: int, events: int, is_consistent: bool
) -> None:
    comparison = compare_rows([ReportRow(FIRST, state, rows, events)])
    assert comparison.days[FIRST].is_consistent is is_consistent
