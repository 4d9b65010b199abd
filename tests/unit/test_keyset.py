"""Cursors hold a position, and are valid for the question they were made for only."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from utils.keyset import Position, decode_cursor, encode_cursor

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
POSITION = Position("older", NOON, UUID(int=7), NOON, NOON)
CURSOR = encode_cursor(POSITION, "question")


def test_a_cursor_is_url_safe_and_holds_its_position() -> None:
    assert CURSOR.replace("-", "").replace("_", "").isalnum()
    assert decode_cursor(CURSOR, "question", Position) == POSITION


def test_a_cursor_of_another_question_is_refused() -> None:
    with pytest.raises(ValueError, match="not a cursor of this question"):
        decode_cursor(CURSOR, "other", Position)


@pytest.mark.parametrize("text", ["", "a", CURSOR[:-4], CURSOR + "=", "A" + CURSOR[1:] + "AAAA"])
def test_a_damaged_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a cursor"):
        decode_cursor(text, "question", Position)
