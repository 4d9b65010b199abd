"""The format of an input, by its first bytes, and what is read of it."""

import gzip
import io
from typing import cast

import pytest

from services.ingest.input_rows import ColumnMapping, Form, TruncatedInput, UnreadableInput
from services.ingest.readers import form_of, open_input, read

LINE = b'{"event_id":"00000000-0000-4000-8000-000000000001","event_name":"a"}\n'
PLAIN = ColumnMapping()


def opened(content: bytes) -> io.BufferedReader:
    return cast(io.BufferedReader, io.BufferedReader(io.BytesIO(content)))


@pytest.mark.parametrize(
    ("start", "form"),
    [
        (b"PAR1", "parquet"),
        (LINE, "ndjson"),
        (b"\xef\xbb\xbf \n" + LINE, "ndjson"),
        (b"event_id,event_name\n", "csv"),
        (b"", "csv"),
    ],
)
def test_the_format_is_that_of_the_first_bytes(start: bytes, form: Form) -> None:
    assert form_of(open_input(opened(start))) == form
    assert form_of(open_input(opened(gzip.compress(start)))) == form


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"\xff\xfe{\x00", "this is UTF-16: convert it to UTF-8"),
        (b" [{}", "this is a JSON array: put each event on a line of its own"),
        (b"\x1f\x8b\x08", "the compressed input is truncated or damaged at its beginning"),
    ],
)
def test_other_inputs_are_refused_with_the_reason(start: bytes, reason: str) -> None:
    with pytest.raises(UnreadableInput, match=reason):
        form_of(open_input(opened(start)))


def test_rows_come_in_blocks() -> None:
    blocks = list(read("ndjson", open_input(opened(gzip.compress(LINE * 5))), PLAIN, 2))
    assert [len(list(block.lines())) for block in blocks if not isinstance(block, list)] == [
        2,
        2,
        1,
    ]


def test_the_rows_before_damage_are_read_and_the_damage_is_told() -> None:
    compressed = gzip.compress(LINE * 5)[:-4]
    blocks = read("ndjson", open_input(opened(compressed)), PLAIN, 2)
    assert len(list(next(blocks).lines())) == 2  # type: ignore[union-attr]
    with pytest.raises(TruncatedInput, match="the compressed input is truncated or damaged"):
        list(blocks)
