"""The format of a file, by its first bytes, and what is read of it."""

import bz2
import gzip
import io
from collections.abc import Callable
from typing import cast

import pytest

from services.ingest.compression import decompressed
from services.ingest.input_rows import ColumnMapping, Form, TruncatedInput
from services.ingest.readers import Layout, read, sniff

LINE = b'{"event_id":"00000000-0000-4000-8000-000000000001","event_name":"a"}\n'
PLAIN, NDJSON = ColumnMapping(), Layout("ndjson")


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
        (b" [{}", "json"),
        (b'{\n  "event_id": 1\n}', "json"),
        (b'{"Records": [{"a": 1}]}', "json"),
        (b'{"Records": [{"a": 1}], "event": {"b": 1}}', "ndjson"),
        (b'{"event_id": "broken\n' + LINE, "ndjson"),
        (b'{"event_id": 1},\n' + LINE, "ndjson"),
        (b"{\n" + LINE, "ndjson"),
        (b"{\n", "ndjson"),
        ("[{}]".encode("utf-16"), "json"),
        ("event_id;event_name".encode("utf-16"), "csv"),
        (b'::1 - - [10/Jan/2025:09:06:40 +0000] "GET / HTTP/1.1" 200 5\n', "access-log"),
    ],
)
def test_the_format_is_that_of_the_first_bytes(start: bytes, form: Form) -> None:
    assert sniff(start) == form


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress])
def test_rows_come_in_blocks(compress: Callable[[bytes], bytes]) -> None:
    blocks = list(read(NDJSON, decompressed(opened(compress(LINE * 5))), PLAIN, 2))
    rows = [len(list(block.lines())) for block in blocks if not isinstance(block, list)]
    assert rows == [2, 2, 1]


def test_the_rows_before_damage_are_read_and_the_damage_is_told() -> None:
    compressed = gzip.compress(LINE * 5)[:-4]
    blocks = read(NDJSON, decompressed(opened(compressed)), PLAIN, 2)
    assert len(list(next(blocks).lines())) == 2  # type: ignore[union-attr]
    with pytest.raises(TruncatedInput, match="the compressed input is truncated or damaged"):
        list(blocks)
