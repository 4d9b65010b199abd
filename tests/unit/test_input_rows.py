"""Rows of an input: the columns of its fields."""

import pytest

from services.ingest.input_rows import (
    ColumnMapping,
    UnreadableInput,
)

HEADER = ["event_id", "user", "event_name", "occurred_at"]


def test_columns_are_found_by_their_names() -> None:
    mapping = ColumnMapping({"user_id": "user"})
    assert mapping.positions(HEADER) == [0, 1, 2, 3, None]
    assert (mapping.of("user_id"), mapping.of("event_id")) == ("user", "event_id")


@pytest.mark.parametrize(
    ("mapping", "header", "message"),
    [
        (ColumnMapping(), HEADER, "unknown column user: name its field with --map"),
        (ColumnMapping({"user_id": "usr"}), HEADER, "there is no column usr; did you mean user"),
        (ColumnMapping(), HEADER[1:], "there is no column event_id; there are user"),
        (ColumnMapping(), [*HEADER, "user"], "two columns have the same name"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    mapping: ColumnMapping, header: list[str], message: str
) -> None:
    with pytest.raises(UnreadableInput, match=message):
        mapping.positions(header)


def test_ignored_columns_may_be_unknown() -> None:
    assert ColumnMapping(ignored=("user",)).positions(HEADER) == [0, None, 2, 3, None]
