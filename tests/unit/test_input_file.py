"""Files as they are opened: their layout, their first rows, and the rows that become events."""

import io
import json
from datetime import UTC, datetime
from typing import cast

import pyarrow
import pytest
from pyarrow import parquet

from services.ingest.input_file import InputFile, ReadOptions
from services.ingest.input_rows import TruncatedInput, UnreadableInput
from services.ingest.mapped_block import MappedBlock
from services.ingest.mapping.options import MappingOptions
from services.ingest.mapping.presets import PRESETS, with_preset
from services.ingest.mapping.snowplow import COLUMNS
from services.ingest.validation import Invalid, RawEvent, Validator
from utils.time.zones import zone

TIME = "2025-01-10 09:06:40.123"
SNOWPLOW = PRESETS["snowplow"]
VALIDATOR = Validator(zone("UTC"), lambda: datetime(2026, 1, 1, tzinfo=UTC))


def opened(content: bytes, options: ReadOptions | None = None) -> InputFile:
    raw = cast(io.BufferedReader, io.BufferedReader(io.BytesIO(content)))
    return InputFile(raw, options or ReadOptions())


def events(file: InputFile, options: MappingOptions) -> list[RawEvent | Invalid]:
    """The events of the rows, which need no further options."""
    resolution = file.resolve(options)
    assert resolution.problems == []
    blocks = file.blocks(resolution, options, 500)
    return [row.event for block in blocks if not isinstance(block, list) for row in block.lines()]


@pytest.mark.parametrize("has_header", [False, True])
def test_values_that_repeat_or_are_names_of_columns_are_no_header(has_header: bool) -> None:
    """Snowplow names structured events `event`, and has equal times and flags in a row."""
    values = {
        "event": "struct",
        "event_name": "event",
        "event_id": "c6ef3124-b53a-4b13-a233-0088f79dcbcb",
        "domain_userid": "d",
        "collector_tstamp": TIME,
        "derived_tstamp": TIME,
        "br_cookies": "1",
        "br_features_pdf": "1",
        "page_title": '"The Best" shoes',  # quotes are text
    }
    lines = ["\t".join(COLUMNS)] * has_header + ["\t".join(values.get(c, "") for c in COLUMNS)] * 2
    file = opened(
        "".join(line + "\n" for line in lines).encode(),
        ReadOptions(delimiter=SNOWPLOW.delimiter, quote=SNOWPLOW.quote, header=SNOWPLOW.header),
    )
    first, second = events(file, with_preset("snowplow", MappingOptions()))
    assert isinstance(first, RawEvent)
    assert first[:4] == (values["event_id"], "d", "event", TIME)
    assert first == second
    assert json.loads(first.properties)["page_title"] == '"The Best" shoes'


@pytest.mark.parametrize("text", [r"{\"a\":1,\"a\":2}", r"{\"a\":1e400}", r"{\"a\"}"])
def test_json_in_a_text_of_json_is_checked(text: str) -> None:
    """Not only the JSON around it."""
    row = f'{{"id":1,"event_name":"a","occurred_at":"{TIME}Z","properties":"{text}"}}\n'
    file, options = opened(row.encode()), MappingOptions(id_sources=("id",))
    for block in file.blocks(file.resolve(options), options, 500):
        assert isinstance(block, MappedBlock)
        assert block.rows(VALIDATOR) == ([], [])
    assert str(events(opened(row.encode()), options)[0]).startswith("properties must")


def test_a_name_that_is_a_number_is_no_text_in_any_block() -> None:
    """Whether another row of its block needs a closer look makes no difference."""
    row = f'{{"id":1,"event_name":5,"user_id":7,"occurred_at":"{TIME}Z"}}\n'
    options = MappingOptions(id_sources=("id",))
    for text, is_plain in ((row, False), (row.replace('e":5', 'e":"a"'), True)):
        file = opened(text.encode())
        for block in file.blocks(file.resolve(options), options, 500):
            assert isinstance(block, MappedBlock)
            assert len(block.rows(VALIDATOR)[0]) == is_plain


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_lines_of_json_in_another_encoding_are_read(encoding: str) -> None:
    row = f'{{"id":1,"event_name":"Käse","occurred_at":"{TIME}Z"}}\n'
    file, options = opened((row * 2).encode(encoding)), MappingOptions(id_sources=("id",))
    assert (file.layout.form, file.layout.description) == ("ndjson", encoding)
    assert [event.event_name for event in events(file, options) if isinstance(event, RawEvent)] == [
        *("Käse", "Käse")
    ]


def test_two_columns_of_parquet_with_one_name_are_refused() -> None:
    table = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 3, ["event_name", "x", "x"])
    parquet.write_table(table, buffer := io.BytesIO())
    with pytest.raises(UnreadableInput, match="two columns have the same name: x"):
        opened(buffer.getvalue()).resolve(MappingOptions(properties={"*": None}))


def test_a_column_without_values_changes_no_id() -> None:
    """The schema of an export grows."""
    columns = {"event_name": ["a"], "occurred_at": [f"{TIME}Z"]}
    ids = []
    for more in ({}, {"x": pyarrow.array([None], pyarrow.string())}):
        parquet.write_table(pyarrow.table(columns | more), buffer := io.BytesIO())
        (event,) = events(opened(buffer.getvalue()), MappingOptions(properties={"*": None}))
        assert isinstance(event, RawEvent)
        ids.append(event.event_id)
    assert ids[0] == ids[1]


def test_sources_are_searched_where_few_rows_fill_the_first_part() -> None:
    row = f'{{"event_name":"a","occurred_at":"{TIME}Z","text":"{"x" * 10_000}"}}\n'
    content = row * 150 + row.replace('"text"', '"who":"u","text"')
    options = MappingOptions(fields={"user_id": ("who",)}, properties={"*": None})
    *_, last = events(opened(content.encode()), options)
    assert isinstance(last, RawEvent)
    assert last.user_id == "u"


def test_bytes_of_another_encoding_are_told() -> None:
    text = "event_name,occurred_at\n" + f"a,{TIME}Z\n" * 500
    broken = text.encode("utf-16") + b"\x00\xd8" + text.encode("utf-16-le")
    options = MappingOptions()
    with pytest.raises(TruncatedInput, match="the input is not utf-16: name its encoding with"):
        events(opened(broken), options)
