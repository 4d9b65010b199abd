"""JSON that is not one object per line is read as such lines."""

import io
import json

import pytest

from services.ingest.input_rows import MAX_LINE_BYTES, TruncatedInput
from services.ingest.json_values import JsonLines


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


def test_an_object_over_several_lines_becomes_one() -> None:
    assert lines('{\n"a": {\r\n"b": "c\\n"}\n}') == ['{ "a": {  "b": "c\\n"} }\n']


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
