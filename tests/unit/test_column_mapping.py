"""Rows that are mapped by column are the events, and the rejected rows, of mapping them singly."""

import csv
import io
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pyarrow
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from repo.ingest import IngestRepo, Inserted
from services.ingest.input_file import InputFile, ReadOptions
from services.ingest.input_rows import InputRow
from services.ingest.loader import Loader, LoadReport, RejectedFile
from services.ingest.mapped_block import MappedBlock
from services.ingest.mapping.options import MappingOptions
from services.ingest.mapping.presets import PRESETS, with_preset
from services.ingest.mapping.resolution import Resolution
from services.ingest.mapping.row_mapping import RowMapper
from services.ingest.mapping.tables import single_records
from services.ingest.parquet_table import parquet_tables
from services.ingest.readers import Part, read, read_records
from services.ingest.validation import Validator
from tests.example_counts import examples
from utils.time.zones import zone

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
ID = "00000000-0000-4000-8000-{:012}"
ROWS_AT_ONCE = 7
_CHARACTERS = {"t": "\t", "n": "\n", "r": "\r"}


@dataclass
class Result:
    events: list[tuple[Any, ...]]
    rejected: list[dict[str, Any]]
    missing: dict[str, int]
    adjusted: dict[str, int]


class RowRepo:
    def __init__(self) -> None:
        self.rows: list[str] = []

    def insert(self, rows: Sequence[str]) -> Inserted:
        self.rows += rows
        return Inserted(len(rows), 0)


def opened(content: bytes) -> io.BufferedReader:
    return cast(io.BufferedReader, io.BufferedReader(io.BytesIO(content)))


def resolved(content: bytes, options: MappingOptions) -> tuple[InputFile, Resolution]:
    file = InputFile(opened(content), ReadOptions())
    return file, file.resolve(options)


def singly(file: InputFile, content: bytes, resolution: Resolution) -> Iterator[list[InputRow]]:
    """The rows as they are mapped one by one."""
    mapper, layout = RowMapper(resolution.mapping), file.layout
    if layout.form == "parquet":
        blocks = parquet_tables(opened(content), mapper.mapping, ROWS_AT_ONCE, by_column=False)
    else:
        blocks = map(single_records, read_records(layout, opened(content), ROWS_AT_ONCE))
    for records in blocks:
        yield list(MappedBlock(records, mapper).lines())


def loaded(blocks: Iterator[Part], options: MappingOptions) -> Result:
    repo, report = RowRepo(), LoadReport()
    with tempfile.TemporaryDirectory() as folder:
        rejected = RejectedFile(Path(folder, "rejected"))
        validator = Validator(options.tz, lambda: NOW)
        Loader(cast(IngestRepo, repo), validator).load(
            blocks, report, rejected=rejected, progress=lambda _: None
        )
        rejected.close()
        lines = rejected.path.read_text().splitlines() if rejected.path.exists() else []
    return Result(
        [normal(row) for row in repo.rows],
        list(map(json.loads, lines)),
        {field: rows for field, rows in report.missing_sources.items() if rows},
        {str(kind): rows for kind, rows in report.adjusted.items()},
    )


def normal(row: str) -> tuple[Any, ...]:
    """The fields of a row of COPY, with the same text for the same time and properties."""
    event_id, user_id, name, time, properties = row.split("\t")
    properties = re.sub(r"\\(.)", lambda match: _CHARACTERS.get(match[1], match[1]), properties)
    values = json.loads(properties, parse_float=Decimal, parse_int=Decimal)
    instant = datetime.fromisoformat(time).astimezone(UTC)
    return event_id, user_id, name, instant, json.dumps(values, sort_keys=True, default=str)


def check_same(content: bytes, options: MappingOptions, is_expected: bool = False) -> Result:
    """Both ways have one result, which is returned."""
    file, resolution = resolved(content, options)
    if is_expected:
        assert resolution.problems == []
    assume(not resolution.problems)
    by_row = loaded(singly(file, content, resolution), options)
    mapper = RowMapper(resolution.mapping)
    by_column = loaded(read(file.layout, opened(content), mapper, ROWS_AT_ONCE), options)
    assert by_column == by_row
    return by_column


TIMES = st.sampled_from(
    [
        "2025-01-31T09:00:00Z",
        "2025-01-31 09:00:00.123456+01:00",
        "2025-01-31 09:00:00",
        "2025-01-31 09:00:00 UTC",
        " 2025-01-31T09:00:00.123456789Z ",
        "2025-01-31 09:00",
        "2025-03-30 02:30:00",
        "2025-10-26 02:30:00",
        "2025-01-31",
        "31.01.2025 09:06",
        "1.1.2025 09:06",
        "1738314000",
        "1738314000123",
        "1738314000.5",
        "2031-01-01T00:00:00Z",
        "2025-02-30T00:00:00Z",
        "",
        "soon",
    ]
)
GOOD_TIMES = ["2025-01-31T09:00:00Z", "2025-01-31 09:00:00", "1738314000", "31.01.2025 09:06"]
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "tz": st.sampled_from([zone("UTC"), zone("Europe/Berlin")]),
        "nulls": st.just(("-",)),
        "epoch": st.sampled_from(["s", "ms"]),
        "time_format": st.just("%d.%m.%Y %H:%M"),
        "constants": st.sampled_from([{"event_name": "other"}, {"user_id": "nobody"}]),
    },
)


def mapping_options(
    fields: Mapping[str, tuple[str, ...]], options: Mapping[str, Any], is_local: bool
) -> MappingOptions:
    optional = dict(options)
    if "epoch" in optional or not is_local:
        optional.pop("time_format", None)
    return MappingOptions(fields=fields, **optional)


CELLS = st.sampled_from(
    ["", "a", "-", "7", "007", "1.5", "true", "é", 'q"q', "a\tb", "x" * 300, "\\N", "{}", "[1"]
)
CSV_OPTIONS = st.sampled_from(
    [
        ({"user_id": ("who",)}, {"properties": {"*": None}}),
        ({"user_id": ("who", "other")}, {"properties": {"*": None}}),
        ({"user_id": ("who",)}, {"properties": {"n": "number"}, "ignored": ("*",)}),
        ({"user_id": ("other", "who")}, {"properties": {"*": None}, "id_sources": ("id", "n")}),
        ({"user_id": ("who",), "properties": ("props",)}, {"properties": {"*": None}}),
        ({"user_id": ("who",), "properties": ("props",)}, {"ignored": ("*",)}),
        ({"user_id": ("who",), "event_id": ("id",)}, {"properties": {"n": None, "*": None}}),
    ]
)
HEADER = ("id", "who", "what", "at", "n", "other", "props")
GOOD_CELLS = ("7", "u", "view", "", "7", "o", '{"a":1}')


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    """CSV, of which the first rows are usual ones."""
    good_time = draw(st.sampled_from(GOOD_TIMES))
    numbers = st.sampled_from(["1", "7", "", "n/a", "1.50", "-0", "12345678901234567"])
    ids = st.sampled_from(
        [ID.format(1), ID.format(2).upper(), "00000000000040008000000000000003", "7", "8", ""]
    )
    props = st.sampled_from(
        [
            '{"a":1}',
            '{"n":7,"other":"o"}',
            "{}",
            " {} ",
            "",
            "[]",
            '{"a":1,"a":2}',
            '{"a":1e400}',
            '{"a":"\\u0000"}',
            '{"a":"\\ud800"}',
            "-",
            '{"\\u0061":"\\u003a"}',
            '{"a":1',
            "null",
        ]
    )
    rows = st.tuples(ids, CELLS, CELLS, TIMES | st.just(good_time), numbers, CELLS, props)
    first = [*GOOD_CELLS[:3], good_time, *GOOD_CELLS[4:]]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEADER)
    writer.writerows([[ID.format(9), *first[1:]], first, *draw(st.lists(rows, max_size=20))])
    lines = text.getvalue()
    # More odd lines than usual ones would be refused, as lines below a wrong header.
    odd = st.sampled_from(["a,b\r\n", '"x,y\r\n', "\r\n", "\xff,\r\n"])
    lines += "".join(draw(st.lists(odd, max_size=2)))
    return lines.encode("utf-8" if draw(st.booleans()) else "latin-1", "replace")


@settings(max_examples=examples(300))
@given(csv_files(), CSV_OPTIONS, OPTIONS)
def test_csv_is_mapped_by_column_as_by_row(
    content: bytes, mapping: tuple[dict[str, Any], dict[str, Any]], options: dict[str, Any]
) -> None:
    fields, others = mapping
    fields = {"event_name": ("what",), "occurred_at": ("at",), **fields}
    check_same(content, mapping_options(fields, {**options, **others}, is_local=True))


VALUES = st.sampled_from(
    [
        "1",
        "7",
        "1.10",
        "-0",
        "12345678901234567890",
        "null",
        "true",
        '""',
        '"a"',
        '"-"',
        '"é\\t"',
        '"\\u003cb\\u003e"',
        '"\\u003a"',
        "{}",
        '{"id":1}',
        "[1, {}]",
        '"x:y"',
        '"{\\"id\\":\\"v\\"}"',
        "1e400",
        '"\\ud800"',
        '"\\u0000"',
        '{"a":1,"a":2}',
        f'"{"x" * 300}"',
    ]
)
USUAL = st.sampled_from(['"a"', "7", '"u"', '{"id":"u","mail":"m"}', '{"mail":"m"}', "null"])
OBJECTS = st.sampled_from(
    [
        '{"a":1}',
        '{"n":1,"time":1738314000}',
        "{}",
        "null",
        '"{\\"a\\":1}"',
        '"no"',
        "[]",
        "5",
        '[{"key":"a","value":{"int_value":"5","string_value":null}}]',
        '[{"key":"a"},{"key":"a"}]',
    ]
)
JSON_OPTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"user_id": ("who.id",)}, {"properties": {"*": None}}),
    ({"user_id": ("who.id", "other", "who.mail")}, {"properties": {"*": None}}),
    ({"user_id": ("other",)}, {"properties": {"who.mail": "mail", "n": None}, "ignored": ("*",)}),
    ({"user_id": ("who",), "properties": ("props",)}, {"properties": {"*": None}}),
    ({"user_id": ("other",), "properties": ("props",)}, {"properties": {"n": None, "who": "a"}}),
    (
        {"user_id": ("other",), "occurred_at": ("props.time", "at"), "properties": ("props",)},
        {"properties": {"*": None}, "id_sources": ("id", "who.id")},
    ),
    ({"event_id": ("id",), "user_id": ("who.id", "other")}, {"ignored": ("n", "props", "more")}),
    (
        {"user_id": ("other",), "properties": ("props",)},
        {"properties": {"*": None}, "pairs": ("props", "more")},
    ),
]


@st.composite
def json_files(draw: st.DrawFn) -> bytes:
    """NDJSON, of which the first rows are usual ones."""
    good_time = json.dumps(draw(st.sampled_from(GOOD_TIMES)))
    times = TIMES.map(json.dumps) | st.sampled_from(
        [good_time, "1738314000", "1738314000.25", "null"]
    )
    ids = st.sampled_from([f'"{ID.format(1)}"', f'"{ID.format(2).upper()}"', "7", '"8"', "null"])
    members = {
        "id": ids,
        "who": USUAL | VALUES,
        "what": st.sampled_from(['"view"', '"buy"']) | VALUES,
        "at": times,
        "n": VALUES,
        "other": USUAL | VALUES,
        "props": OBJECTS | VALUES,
    }
    more = {"more": OBJECTS, "who": VALUES}
    rows = st.fixed_dictionaries({}, optional=members | more)
    usual = st.fixed_dictionaries({**members, "at": st.just(good_time), "what": st.just('"v"')})
    first = {
        "id": f'"{ID.format(9)}"',
        "who": '{"id":"u","mail":"m"}',
        "what": '"view"',
        "at": good_time,
        "n": "1",
        "other": '"o"',
        "props": '{"a":1,"time":"2025-01-31T09:00:00Z"}',
    }
    lines = [first, *draw(st.lists(usual | rows, max_size=20))]
    texts = ["{" + ",".join(f'"{key}": {row[key]}' for key in row) + "}" for row in lines]
    odd = ["{", "", "[]", '{"a":1,"a":2}', '{"who":1,"who":2}', "\xff", '{"\\ud800":1}']
    texts += draw(st.lists(st.sampled_from(odd), max_size=3))
    if draw(st.booleans()):
        texts[1:] = draw(st.permutations(texts[1:]))
    return "\n".join(texts).encode("utf-8" if draw(st.booleans()) else "latin-1", "replace")


@settings(max_examples=examples(300))
@given(json_files(), st.sampled_from(JSON_OPTIONS), OPTIONS)
def test_json_is_mapped_by_column_as_by_row(
    content: bytes, mapping: tuple[dict[str, Any], dict[str, Any]], options: dict[str, Any]
) -> None:
    fields, others = mapping
    fields = {"event_name": ("what",), "occurred_at": ("at",), **fields}
    check_same(content, mapping_options(fields, {**options, **others}, is_local=True))


UNION = pyarrow.struct(
    [
        ("string_value", pyarrow.string()),
        ("int_value", pyarrow.int64()),
        ("double_value", pyarrow.float64()),
    ]
)
PAIRS = pyarrow.list_(pyarrow.struct([("key", pyarrow.string()), ("value", UNION)]))
DEVICE = pyarrow.struct([("os", pyarrow.string()), ("Version", pyarrow.int32())])
UTC_TIME, LOCAL_TIME = pyarrow.timestamp("us", "UTC"), pyarrow.timestamp("ms")
TEXTS = st.sampled_from(["a", "", "-", "é", 'q"q', "a\tb", "\0", None, "u"])
NUMBERS = st.sampled_from([1, 7, -5, 2**60, None])
FLOATS = st.sampled_from([1.5, 7.0, -0.0, 1e300, float("nan"), float("inf"), None])
INSTANTS = st.sampled_from(
    [
        datetime(2025, 1, 31, 9),
        datetime(2025, 3, 30, 2, 30, 0, 5000),
        datetime(2025, 10, 26, 2, 30),
        datetime(2031, 1, 1),
        datetime(1999, 1, 1),
        None,
    ]
)
UNIONS = st.fixed_dictionaries(
    {}, optional={"string_value": TEXTS, "int_value": NUMBERS, "double_value": FLOATS}
)
PAIR_LISTS = st.none() | st.lists(
    st.none()
    | st.fixed_dictionaries(
        {"key": st.sampled_from(["b", "a", "é", "n", None]), "value": st.none() | UNIONS}
    ),
    max_size=4,
)
DEVICES = st.none() | st.fixed_dictionaries({"os": TEXTS, "Version": st.sampled_from([1, None])})
PARQUET_OPTIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"user_id": ("who",)}, {"properties": {"*": None}}),
    ({"user_id": ("who", "n")}, {"properties": {"*": None}}),
    ({"user_id": ("n",), "properties": ("pairs",)}, {"properties": {"*": None}}),
    ({"user_id": ("n",), "properties": ("json",)}, {"properties": {"device": None, "*": None}}),
    (
        {"user_id": ("who",)},
        {"properties": {"n": None}, "ignored": ("*",), "id_sources": ("n", "who")},
    ),
]
JSON_TEXTS = st.sampled_from(['{"a":1}', '{"n":2}', "", "[]", '{"a":1,"a":2}', None])


@st.composite
def parquet_files(draw: st.DrawFn) -> bytes:
    """Parquet with columns of many types."""
    kind = draw(st.sampled_from([UTC_TIME, LOCAL_TIME, pyarrow.timestamp("ns", "Europe/Berlin")]))
    columns: dict[str, tuple[Any, Any]] = {
        "who": (pyarrow.string(), TEXTS),
        "what": (pyarrow.large_string(), st.sampled_from(["view", "buy", ""])),
        "at": (kind, INSTANTS),
        "n": (pyarrow.int64(), NUMBERS),
        "x": (pyarrow.float64(), FLOATS),
        "json": (pyarrow.string(), JSON_TEXTS),
        "pairs": (PAIRS, PAIR_LISTS),
        "device": (DEVICE, DEVICES),
        "list": (pyarrow.list_(pyarrow.string()), st.none() | st.lists(TEXTS, max_size=3)),
        "cost": (
            pyarrow.decimal128(9, 2),
            st.sampled_from([Decimal("1.50"), Decimal("2.00"), None]),
        ),
        "day": (pyarrow.date32(), INSTANTS.map(lambda time: time and time.date())),
        "blob": (pyarrow.binary(), st.sampled_from([None, None, b"a", b"\xff"])),
    }
    rows = draw(
        st.lists(st.fixed_dictionaries({k: s for k, (_, s) in columns.items()}), max_size=15)
    )
    first = dict.fromkeys(columns) | {"who": "u", "what": "view", "at": datetime(2025, 1, 31, 9)}
    rows = [first, *rows]
    arrays = {k: pyarrow.array([row[k] for row in rows], kind) for k, (kind, _) in columns.items()}
    parquet.write_table(pyarrow.table(arrays), content := io.BytesIO(), row_group_size=10)
    return content.getvalue()


@settings(max_examples=examples(150))
@given(parquet_files(), st.sampled_from(PARQUET_OPTIONS), OPTIONS)
def test_parquet_is_mapped_by_column_as_by_row(
    content: bytes, mapping: tuple[dict[str, Any], dict[str, Any]], options: dict[str, Any]
) -> None:
    fields, others = mapping
    fields = {"event_name": ("what",), "occurred_at": ("at",), **fields}
    check_same(content, mapping_options(fields, {**options, **others}, is_local=False))


CASES = Path(__file__).parents[1] / "data" / "cases"
PRESET_FILES = {
    "access-log": "access.log",
    "amplitude": "amplitude.json",
    "cloudtrail": "cloudtrail.ndjson",
    "ga4": "ga4.json",
    "github-archive": "gharchive.json",
    "matomo": "matomo.csv",
    "mixpanel": "mixpanel.ndjson",
    "plausible": "plausible.csv",
    "posthog": "posthog.ndjson",
    "segment": "segment.ndjson",
    "snowplow": "snowplow.tsv",
    "umami": "umami.csv",
}


@pytest.mark.parametrize("name", PRESETS)
def test_rows_of_exports_are_mapped_by_column(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them: single rows take several times as long."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a row is mapped by itself")

    preset, content = PRESETS[name], (CASES / PRESET_FILES[name]).read_bytes()
    options = with_preset(name, MappingOptions())
    read_options = ReadOptions(delimiter=preset.delimiter, quote=preset.quote, header=preset.header)
    file = InputFile(opened(content), read_options)
    resolution = file.resolve(options)
    monkeypatch.setattr(RowMapper, "__call__", refuse)
    blocks = read(file.layout, opened(content), RowMapper(resolution.mapping), ROWS_AT_ONCE)
    result = loaded(blocks, options)
    assert (len(result.events) > 0, result.rejected) == (True, [])
