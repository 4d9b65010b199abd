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
from services.ingest.events import Invalid, Validator
from services.ingest.lines import DAMAGED, MOST_LINE_BYTES, Columns, Line, Unreadable
from services.ingest.load import Loader, RejectedFile, Report
from tests.given import event

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
VALIDATOR = Validator(None, lambda: NOW)
HEADER = "event_id,user_id,event_name,occurred_at,properties\n"
Read = tuple[int, str]


def read(text: bytes, *, most: int, quick: bool) -> Iterator[Read]:
    """Of each row its number, and the row as COPY reads it or what is wrong with it."""
    with gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(text, 1))) as file:
        for block in csv_blocks(file, Columns(), most):
            taken = block.rows(VALIDATOR.until()) if quick else None
            if taken:
                rows, places = taken
                yield from zip((number for number, _ in places), rows, strict=True)
            else:
                yield from map(_read, block.lines())


def _read(line: Line) -> Read:
    try:
        if isinstance(line.given, Invalid):
            raise line.given
        ((row,),) = (as_rows([VALIDATOR(line.given)]),)
        return line.number, row
    except Invalid as exc:
        return line.number, str(exc)


def written(n: int, **other: Any) -> str:
    given = event(n, occurred_at="2025-01-31T09:00:00+00:00", **{"properties": "{}", **other})
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(given.values())
    return text.getvalue()


def test_usual_rows_are_taken_as_a_whole() -> None:
    text = HEADER + written(1) + written(2, user_id='a "b", \\ü') + written(3, user_id="")
    with gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(text.encode()))) as file:
        block = next(csv_blocks(file, Columns(), 500))
        taken = block.rows(VALIDATOR.until())
    assert taken is not None
    rows, places = taken
    assert [number for number, _ in places] == [2, 3, 4]
    assert list(zip([2, 3, 4], rows, strict=True)) == list(
        read(text.encode(), most=500, quick=False)
    )


def test_what_the_file_does_not_have_is_nobody_and_without_properties() -> None:
    text = "occurred_at,event_id,event_name\n2025-01-31T09:00:00Z,{},view\n".format(
        event(1)["event_id"]
    )
    ((number, row),) = read(text.encode(), most=500, quick=True)
    assert (number, row.split("\t")[1:3], row.split("\t")[4]) == (2, ["", "view"], "{}")


ROWS = st.one_of(
    st.integers(0, 99).map(written),
    st.builds(
        written,
        st.integers(0, 9),
        user_id=st.sampled_from(["a\nb", '"', "", "x,y", "\\", "ü", "x" * 60, "a\r\nb"]),
    ),
    st.builds(
        written,
        st.integers(0, 9),
        user_id=st.sampled_from(["\\N", "a\\N", "\n\\N,", 'a"\\N"b', "\\N\\N"]),
        event_name=st.sampled_from(["view", "\\N"]),
        properties=st.sampled_from(["{}", "\\N", '{"a": "\\\\N"}']),
    ),
    st.integers(0, 9).map(lambda n: written(n, user_id="?").replace("?", '"\\N"')),
    st.sampled_from(
        ["\n", "a,b\n", '"open,', 'x"y,\n', '"a"b,c\n', "\udcff,\n", ",,,,\n", '"\n', ",,,,,,\n"]
    ),
)


def test_an_unquoted_null_is_taken_as_a_whole() -> None:
    quoted = written(2, user_id="?").replace("?", '"\\N"')
    text = (HEADER + written(1, user_id="\\N") + quoted).encode()
    found = list(read(text, most=500, quick=True))
    assert [row.split("\t")[1] for _, row in found] == ["", "\\\\N"]  # as COPY escapes it
    with gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(text))) as file:
        assert next(csv_blocks(file, Columns(), 500)).rows(VALIDATOR.until()) is not None


@given(st.lists(ROWS, max_size=30), st.integers(1, 8))
def test_both_ways_come_to_the_same_rows(rows: list[str], most: int) -> None:
    text = (HEADER + "".join(rows)).encode(errors="surrogateescape")
    assert list(read(text, most=most, quick=True)) == list(read(text, most=500, quick=False))


def test_rows_before_the_damage_are_given() -> None:
    shuffled = random.Random(1)
    text = HEADER + "".join(written(n, user_id=str(shuffled.random())) for n in range(3_000))
    found: list[Read] = []
    cut = gzip.compress(text.encode())[:-9_000]
    with gzip.GzipFile(fileobj=io.BytesIO(cut)) as file, pytest.raises(DAMAGED):
        found.extend(_numbers(file))
    assert [number for number, _ in found] == list(range(2, len(found) + 2))
    assert len(found) > 500


class _Taking:
    """A table that takes all."""

    def insert(self, rows: Sequence[str]) -> Inserted:
        return Inserted(len(rows), 0)


def test_damage_within_a_row_loses_no_row_before_it(tmp_path: Path) -> None:
    shuffled = random.Random(1)
    text = HEADER + "".join(written(n, user_id=f"a\n{shuffled.random()}") for n in range(200))
    whole = gzip.compress(text.encode())
    broken = Counter[str]()
    for cut in range(1_000, 1_200, 7):
        report, rejected = Report(), RejectedFile(tmp_path / "rejected")
        loader = Loader(cast(IngestRepo, _Taking()), VALIDATOR)
        with gzip.GzipFile(fileobj=io.BytesIO(whole[:-cut])) as file:
            loader.load("csv", file, Columns(), report, rejected=rejected, progress=lambda _: None)
        rejected.close()
        assert report.ended == "the compressed input is cut off or damaged"
        assert report.inserted > 100
        assert report.read - report.inserted == report.rejected.total() <= 1
        broken += report.rejected
    assert list(broken) == ["the row cannot be read: unexpected end of data"]


def _numbers(file: gzip.GzipFile) -> Iterator[Read]:
    for block in csv_blocks(file, Columns(), 500):
        rows, places = block.rows(VALIDATOR.until()) or ([], [])
        yield from zip((number for number, _ in places), rows, strict=True)


LONG = MOST_LINE_BYTES + 1


@pytest.mark.parametrize(
    "long",
    [
        "x" * LONG,
        ",".join(["x" * 1_000_000] * 5),
        "x," * (MOST_LINE_BYTES // 2 + 1),
        # A quote that stays open takes line after line into one row.
        '"' + ("x" * 1_000_000 + "\n") * 5 + "x",
    ],
    ids=["one field", "five fields", "many fields", "many lines"],
)
def test_a_row_of_great_length_is_refused_and_the_next_is_taken(long: str) -> None:
    text = f"{HEADER}{written(1)}{long}\n{written(2)}".encode()
    for quick in (True, False):
        found = list(read(text, most=500, quick=quick))
        taken = [row.split("\t")[1] for _, row in found if "\t" in row]
        refused = [reason for _, reason in found if "\t" not in reason]
        assert taken == ["u1", "u2"]
        assert refused[0] == "the row cannot be read: it is over 4 MB long"


def test_a_line_of_100_mb_is_not_held() -> None:
    text = HEADER.encode() + b"x" * 100 * 2**20 + b"\n" + written(2).encode()
    packed = gzip.compress(text, 1)
    del text
    tracemalloc.start()
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        found = [
            _read(line) for block in csv_blocks(file, Columns(), 500) for line in block.lines()
        ]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [number for number, _ in found] == [2, 3]
    assert most < 40 * 2**20


@pytest.mark.parametrize("header", ["x" * LONG, '"event_id', '"a"b,c\n'])
def test_a_header_that_cannot_be_read_is_no_traceback(header: str) -> None:
    with pytest.raises(Unreadable, match=r"^the header cannot be read: "):
        list(read(header.encode(), most=500, quick=True))
