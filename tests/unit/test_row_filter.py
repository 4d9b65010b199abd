"""Filters on events that are read as rows, beside plain Python."""

import pytest
from hypothesis import given, settings

from common.errors import InvalidParameter
from repo.columns.row_filter import EventRow, matching_rows
from tests import where_oracle
from tests.chunks import json_of, parsed
from tests.example_counts import examples
from tests.where_strategies import Case, cases


@given(cases())
@settings(max_examples=examples(300))
def test_rows_match_as_plain_python_says(case: Case) -> None:
    rows = [
        EventRow(event.user_id or "", event.event_name, json_of(event.properties).decode())
        for event in case.events
    ]
    expected = [where_oracle.matches(case.where, event) for event in case.events]
    assert matching_rows(parsed(case.where), rows) == expected


def test_the_order_of_rows_is_kept() -> None:
    rows = [EventRow(user, "view", f'{{"a": {n}}}') for n, user in enumerate(["b", "a", "", "b"])]
    assert matching_rows(parsed("a:>=2"), rows) == [False, False, True, True]
    assert matching_rows(parsed("@user:b"), rows) == [True, False, False, True]
    assert matching_rows(parsed("-@user:*"), rows) == [False, False, True, False]
    assert matching_rows(parsed("-@event:view"), rows) == [False] * 4
    assert matching_rows(parsed("a:1"), []) == []


def test_a_name_that_columns_do_not_hold_is_refused() -> None:
    where = parsed(f"{'x' * 1_993}:1")
    with pytest.raises(InvalidParameter) as error_info:
        matching_rows(where, [])
    (fault,) = error_info.value.faults
    assert fault.parameter == "where"
    assert fault.message.endswith("has so long a name that columns do not hold it")
