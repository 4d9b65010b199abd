"""Blocks of CSV: what is taken as a whole is what is taken row by row."""

import csv
import gzip
import io
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo.ingest import IngestRepo, Inserted, as_rows
from services.ingest.csv import csv_blocks
from services.ingest.input_rows import (
    DAMAGED,
    MAX_LINE_BYTES,
    ColumnMapping,
    InputRow,
    UnreadableInput,
)
from services.ingest.loader import Loader, LoadReport, RejectedFile
from services.ingest.readers import Layout
from services.ingest.readers import read as read_file
from services.ingest.validation import Invalid, Validator
from tests.factories import event

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
VALIDATOR = Validator(None, lambda: NOW)
HEADER = "event_id,user_id,event_name,occurred_at,properties\n"
Read = tuple[int, str]


def read(text: bytes, *, limit: int, is_fast: bool) -> Iterator[Read]:
    """Of each row its number, and the row as COPY reads it or what is wrong with it."""
    with gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(text, 1))) as file:
        for block in csv_blocks(file, ColumnMapping(), limit):
            valid_rows = block.rows(VALIDATOR.latest()) if is_fast else None
            if valid_rows:
                rows, positions = valid_rows
                yield from zip((number for number, _ in positions), rows, strict=True)
            else:
                yield from map(_read, block.lines())


def _read(line: InputRow) -> Read:
    try:
        if isinstance(line.event, Invalid):
            raise line.event
        ((row,),) = (as_rows([VALIDATOR(line.event)]),)
        return line.number, row
    except Invalid as exc:
        return line.number, str(exc)


def csv_line(n: int, **other: Any) -> str:
    fields = event(n, occurred_at="2025-01-31T09:00:00+00:00", **{"properties": "{}", **other})
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields.values())
    return text.getvalue()


def test_usual_rows_are_taken_as_a_whole() -> None:
    text = HEADER + csv_line(1) + csv_line(2, user_id='a "b", \\ü') + csv_line(3, user_id="")
    with gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(text.encode()))) as file:
        block = next(csv_blocks(file, ColumnMapping(), 500))
        valid_rows = block.rows(VALIDATOR.latest())
    assert valid_rows is not None
    rows, positions = valid_rows
    assert [number for number, _ in positions] == [2, 3, 4]
    assert list(zip([2, 3, 4], rows, strict=True)) == list(
        read(text.encode(), limit=500, is_fast=False)
    )


def test_what_the_file_does_not_have_is_nobody_and_without_properties() -> None:
    text = "occurred_at,event_id,event_name\n2025-01-31T09:00:00Z,{},view\n".format(
        event(1)["event_id"]
    )
    ((number, row),) = read(text.encode(), limit=500, is_fast=True)
    assert (number, row.split("\t")[1:3], row.split("\t")[4]) == (2, ["", "view"], "{}")


ROWS = st.one_of(
    st.integers(0, 99).map(csv_line),
    st.builds(
        csv_line,
        st.integers(0, 9),
        user_id=st.sampled_from(["a\nb", '"', "", "x,y", "\\", "ü", "x" * 60, "a\r\nb"]),
    ),
    st.builds(
        csv_line,
        st.integers(0, 9),
        user_id=st.sampled_from(["\\N", "a\\N", "\n\\N,", 'a"\\N"b', "\\N\\N"]),
        event_name=st.sampled_from(["view", "\\N"]),
        properties=st.sampled_from(["{}", "\\N", '{"a": "\\\\N"}']),
    ),
    st.integers(0, 9).map(lambda n: csv_line(n, user_id="?").replace("?", '"\\N"')),
    st.sampled_from(
        ["\n", "a,b\n", '"open,', 'x"y,\n', '"a"b,c\n', "\udcff,\n", ",,,,\n", '"\n', ",,,,,,\n"]
    ),
)


def test_an_unquoted_null_is_taken_as_a_whole() -> None:
    quoted = csv_line(2, user_id="?").replace("?", '"\\N"')
    text = (HEADER + csv_line(1, user_id="\\N") + quoted).encode()
    results = list(read(text, limit=500, is_fast=True))
    assert [row.split("\t")[1] for _, row in results] == ["", "\\\\N"]  # as COPY escapes it
    with gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(text))) as file:
        assert next(csv_blocks(file, ColumnMapping(), 500)).rows(VALIDATOR.latest()) is not None


@given(st.lists(ROWS, max_size=30), st.integers(1, 8))
def test_both_ways_come_to_the_same_rows(rows: list[str], most: int) -> None:
    text = (HEADER + "".join(rows)).encode(errors="surrogateescape")
    assert list(read(text, limit=most, is_fast=True)) == list(read(text, limit=500, is_fast=False))


def test_rows_before_the_damage_are_given() -> None:
    shuffled = random.Random(1)
    text = HEADER + "".join(csv_line(n, user_id=str(shuffled.random())) for n in range(3_000))
    results: list[Read] = []
    cut = gzip.compress(text.encode())[:-9_000]
    with gzip.GzipFile(fileobj=io.BytesIO(cut)) as file, pytest.raises(DAMAGED):
        results.extend(_numbers(file))
    assert [number for number, _ in results] == list(range(2, len(results) + 2))
    assert len(results) > 500


class _RecordingRepo:
    """A table that takes all."""

    def insert(self, rows: Sequence[str]) -> Inserted:
        return Inserted(len(rows), 0)


def test_damage_within_a_row_loses_no_row_before_it(tmp_path: Path) -> None:
    shuffled = random.Random(1)
    text = HEADER + "".join(csv_line(n, user_id=f"a\n{shuffled.random()}") for n in range(200))
    complete = gzip.compress(text.encode())
    broken = Counter[str]()
    for cut in range(1_000, 1_200, 7):
        report, rejected = LoadReport(), RejectedFile(tmp_path / "rejected")
        loader = Loader(cast(IngestRepo, _RecordingRepo()), VALIDATOR)
        with gzip.GzipFile(fileobj=io.BytesIO(complete[:-cut])) as file:
            blocks = read_file(Layout("csv"), file, ColumnMapping(), loader.part_rows)
            loader.load(blocks, report, rejected=rejected, progress=lambda _: None)
        rejected.close()
        assert report.truncation == "the compressed input is truncated or damaged"
        assert report.inserted > 100
        assert report.read - report.inserted == report.rejected.total() <= 1
        broken += report.rejected
    assert list(broken) == ["the row cannot be read: unexpected end of data"]


def _numbers(file: gzip.GzipFile) -> Iterator[Read]:
    for block in csv_blocks(file, ColumnMapping(), 500):
        rows, positions = block.rows(VALIDATOR.latest()) or ([], [])
        yield from zip((number for number, _ in positions), rows, strict=True)


LONG = MAX_LINE_BYTES + 1


@pytest.mark.parametrize(
    "long",
    [
        "x" * LONG,
        ",".join(["x" * 1_000_000] * 5),
        "x," * (MAX_LINE_BYTES // 2 + 1),
        # A quote that stays open takes line after line into one row.
        '"' + ("x" * 1_000_000 + "\n") * 5 + "x",
    ],
    ids=["one field", "five fields", "many fields", "many lines"],
)
def test_a_row_of_great_length_is_refused_and_the_next_is_taken(long: str) -> None:
    text = f"{HEADER}{csv_line(1)}{long}\n{csv_line(2)}".encode()
    for quick in (True, False):
        results = list(read(text, limit=500, is_fast=quick))
        accepted = [row.split("\t")[1] for _, row in results if "\t" in row]
        refused = [reason for _, reason in results if "\t" not in reason]
        assert accepted == ["u1", "u2"]
        assert refused[0] == "the row cannot be read: it is over 4 MB long"


def test_a_line_of_100_mb_is_not_held() -> None:
    text = HEADER.encode() + b"x" * 100 * 2**20 + b"\n" + csv_line(2).encode()
    packed = gzip.compress(text, 1)
    del text
    tracemalloc.start()
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        results = [
            _read(line)
            for block in csv_blocks(file, ColumnMapping(), 500)
            for line in block.lines()
        ]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [number for number, _ in results] == [2, 3]
    assert peak < 40 * 2**20


@pytest.mark.parametrize("header", ["x" * LONG, '"event_id', '"a"b,c\n'])
def test_a_header_that_cannot_be_read_is_no_traceback(header: str) -> None:
    with pytest.raises(UnreadableInput, match=r"^the header cannot be read: "):
        list(read(header.encode(), limit=500, is_fast=True))
