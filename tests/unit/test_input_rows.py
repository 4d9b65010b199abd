"""Rows of an input: the columns of its fields, and parts of limited size."""

from collections.abc import Iterator

import pytest

from services.ingest.input_rows import (
    ColumnMapping,
    TruncatedInput,
    UnreadableInput,
    parts,
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


def test_parts_are_limited_by_rows_and_by_size() -> None:
    assert list(parts(iter("abcde"), 2, len)) == [["a", "b"], ["c", "d"], ["e"]]
    large = "x" * (2**20 + 1)
    assert list(parts(iter([large, "a"]), 2, len)) == [[large], ["a"]]


def test_rows_before_damage_are_yielded_before_its_error() -> None:
    def rows() -> Iterator[str]:
        yield "a"
        raise TruncatedInput

    read = parts(rows(), 9, len)
    assert next(read) == ["a"]
    with pytest.raises(TruncatedInput):
        next(read)
