"""Answers as bytes, and which form a client wants."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import msgspec
import pytest

from utils.formats import as_csv, as_ndjson, preferred_format, quantity


@dataclass
class Row:
    name: str
    day: date
    moment: datetime
    share: float | None
    whole: bool
    more: Any = field(default_factory=lambda: msgspec.UNSET)


NEW_YEAR = Row('a "quoted", ü', date(2025, 1, 1), datetime(2025, 1, 1, tzinfo=UTC), None, True)


def test_quantities_are_singular_for_one() -> None:
    counts = [quantity(count, "event") for count in (0, 1, 2, 1000)]
    assert counts == ["0 events", "1 event", "2 events", "1,000 events"]


def test_csv_quotes_what_must_be_quoted() -> None:
    assert as_csv(Row, [NEW_YEAR]).decode() == (
        'name,day,moment,share,whole\r\n"a ""quoted"", ü",2025-01-01,2025-01-01T00:00:00Z,,true\r\n'
    )


def test_csv_without_rows_has_its_names() -> None:
    assert as_csv(Row, []) == b"name,day,moment,share,whole,more\r\n"


def test_csv_of_mappings_has_the_columns_that_are_named() -> None:
    rows = [{"p99.5": 1.5, "sum": msgspec.Raw(b"1e400"), "more": 1}]
    assert as_csv(["sum", "p99.5"], rows) == b"sum,p99.5\r\n1e400,1.5\r\n"
    assert as_csv(["sum", "p99.5"], []) == b"sum,p99.5\r\n"


def test_ndjson_is_an_object_a_line() -> None:
    lines = as_ndjson([NEW_YEAR, NEW_YEAR]).splitlines()
    assert len(lines) == 2
    assert msgspec.json.decode(lines[0])["share"] is None
    assert as_ndjson([]) == b""


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("text/html,application/xhtml+xml", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV; charset=utf-8", "csv"),
        ("application/x-ndjson", "ndjson"),
        ("text/csv;q=0.5, application/x-ndjson", "ndjson"),
        ("text/csv;q=0, */*", "json"),
        ("text/csv;q=much", "json"),
        ("application/json, text/csv;q=0.9", "json"),
    ],
)
def test_the_form_a_client_wants(accept: str, form: str) -> None:
    assert preferred_format(accept) == form
