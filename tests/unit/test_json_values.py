"""JSON that is not one object per line is read as such lines."""

import io
import json
import time

import pytest

from services.ingest.input_rows import MAX_LINE_BYTES, TruncatedInput
from services.ingest.json_values import JsonLines, extends_over_lines
from services.ingest.ndjson import ndjson_records
from services.ingest.validation import Invalid
from tests.wait_until import adjusted_for_load


def lines(text: str, encoding: str = "utf-8") -> list[str]:
    reader = JsonLines(
        io.BytesIO(text.encode(encoding)), "utf-16" if "16" in encoding else "utf-8-sig"
    )
    read = []
    while line := reader.readline(MAX_LINE_BYTES):
        read.append(line.decode())
    return read


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1.10}, {"b": 2}]',
        ' [\n{"a": 1.10},\n{"b": 2}\n]\n',
        '{"Records": [{"a": 1.10}, {"b": 2}], "next": null}',
        '{"count": 2, "Records": [{"a": 1.10}, {"b": 2}]}',
        '{"a": 1.10}\n{"b": 2}',
        '\ufeff{"a": 1.10} {"b": 2}',
    ],
)
def test_objects_become_lines_with_their_own_text(text: str) -> None:
    assert lines(text) == ['{"a": 1.10}\n', '{"b": 2}\n']
    assert lines(text.removeprefix("\ufeff"), "utf-16") == ['{"a": 1.10}\n', '{"b": 2}\n']


def test_an_object_with_an_empty_list_has_no_rows() -> None:
    assert lines('{"Records": []}') == []
    assert lines('{"Records": [], "items": []}') != []


def test_an_object_that_is_cut_off_is_read_in_no_time() -> None:
    began = time.process_time()
    start = "{" + ", ".join(f'"key {n}": {n}' for n in range(1_000))
    assert not extends_over_lines(f'{start}, "object": {{"text": "')
    assert extends_over_lines(f'{start}, "rows": [{{"text": "')
    assert time.process_time() - began < adjusted_for_load(0.5)


def test_an_object_over_several_lines_becomes_one() -> None:
    assert lines('{\n"a": {\r\n"b": "c\\n"}\n}') == ['{ "a": {  "b": "c\\n"} }\n']


def test_a_row_with_a_list_is_no_envelope() -> None:
    """Such as a purchase with its items."""
    row = '{"event_name": "buy", "items": [{"sku": 1}, {"sku": 2}]}'
    page = '{"event_name": "view"}'
    assert lines(f"{row}\n{page}") == [row + "\n", page + "\n"]
    assert lines(f"{page}\n{row}") == [page + "\n", row + "\n"]
    assert not extends_over_lines(f"{row}\n{page}")
    assert extends_over_lines(row.replace("buy", "answer") + "\n")
    pages = '{"Records": [{"a": 1}]}'
    assert lines(pages * 2) == ['{"a": 1}\n'] * 2


def test_after_an_object_that_is_too_long_the_next_one_is_read() -> None:
    objects = ['{"n": 1}', json.dumps({"text": "x" * (MAX_LINE_BYTES + 1_000)}), '{"n": 2}']
    reader = JsonLines(io.BytesIO(f"[{','.join(objects)}]".encode()))
    read = [record for records in ndjson_records(reader, 500) for record in records]
    assert [record.row if isinstance(record.row, Invalid) else 1 for record in read][::2] == [1, 1]
    assert str(read[1].row) == "the line is over 4 MB long"


def test_of_an_envelope_that_is_cut_off_the_rows_are_read() -> None:
    """The first rows are read from the beginning of the file."""
    rows = [{"n": n, "text": "x" * 500} for n in range(20)]
    reader = JsonLines(io.BytesIO(json.dumps({"Records": rows}).encode()[:-600]))
    for n in range(18):
        assert json.loads(reader.readline(MAX_LINE_BYTES))["n"] == n
    with pytest.raises(TruncatedInput):
        reader.readline(MAX_LINE_BYTES)


def test_long_arrays_and_envelopes_are_read_in_parts() -> None:
    rows = [{"n": n, "text": "x" * 500} for n in range(12_000)]
    for text in (json.dumps(rows), json.dumps({"Records": rows})):
        assert [json.loads(line)["n"] for line in lines(text)] == list(range(12_000))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('[{"a": 1}, {"b"', 1),
        ('[{"a": 1}, {"b": x}]', 1),
        ('[{"a": 1}', 1),
        ('[{"a": 1}] {"b": 2}', 1),
        ('{"a": 1} 7', 1),
        ("[" + "[" * 100_000, 0),
    ],
)
def test_rows_before_a_fault_are_read(text: str, rows: int) -> None:
    reader = JsonLines(io.BytesIO(text.encode()))
    assert all(reader.readline(MAX_LINE_BYTES) for _ in range(rows))
    with pytest.raises(TruncatedInput):
        reader.readline(MAX_LINE_BYTES)
