"""Blocks of NDJSON: what is taken as a whole is what is taken line by line."""

import gzip
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo.ingest import Event, as_rows
from services.ingest.input_rows import DAMAGED, MAX_LINE_BYTES, ColumnMapping
from services.ingest.ndjson import Decoders, NdjsonBlock, ndjson_blocks
from services.ingest.validation import Invalid, RawEvent, Validator
from tests.events import GIT_HISTORY
from tests.factories import event

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
VALIDATOR = Validator(None, lambda: NOW)


def reader(text: bytes) -> gzip.GzipFile:
    return gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(text, 1)))


def block(*lines: dict[str, Any] | bytes) -> NdjsonBlock:
    """Of one piece."""
    text = b"".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines
    )
    (parsed,) = ndjson_blocks(reader(text), ColumnMapping(), 500)
    return parsed


def fast_rows(parsed: NdjsonBlock) -> list[str] | None:
    """The rows, with times as those who look at each line write them."""
    valid_rows = parsed.rows(VALIDATOR.latest())
    return None if valid_rows is None else list(map(_with_time_in_utc, valid_rows[0]))


def _with_time_in_utc(row: str) -> str:
    *others, instant, properties = row.split("\t")
    instant = datetime.fromisoformat(instant).astimezone(UTC).isoformat()
    return "\t".join((*others, instant, properties))


def by_line(parsed: NdjsonBlock) -> list[str] | None:
    """None if one cannot be stored."""
    try:
        return as_rows(map(_valid, (line.event for line in parsed.lines())))
    except Invalid:
        return None


def _valid(raw_event: RawEvent | Invalid) -> Event:
    if isinstance(raw_event, Invalid):
        raise raw_event
    return VALIDATOR(raw_event)


def test_usual_lines_are_taken_as_a_whole() -> None:
    odd = event(2, user_id="ü/\\", properties={"a": ["\t", 'quoted "']})
    odd["occurred_at"] = "2025-01-31 09:00:00.5+00"
    parsed_block = block(event(1), odd, event(3))
    rows = fast_rows(parsed_block)
    assert rows is not None
    assert rows == by_line(parsed_block)


def test_whole_numbers_and_null_are_usual_users() -> None:
    parsed_block = block(event(1, user_id=7), event(2, user_id=-(10**30)), event(3, user_id=None))
    rows = fast_rows(parsed_block)
    assert rows is not None
    assert rows == by_line(parsed_block)
    assert [row.split("\t")[1] for row in rows] == ["7", "-" + "1" + "0" * 30, ""]


def test_all_of_the_real_events_are() -> None:
    with gzip.open(GIT_HISTORY) as file:
        blocks = list(ndjson_blocks(file, ColumnMapping(), 500))
    assert sum(len(each.raw) for each in blocks) == 200_925
    assert all(each.rows(VALIDATOR.latest()) for each in blocks)
    assert all(fast_rows(each) == by_line(each) for each in blocks[:20])


UNUSUAL = [
    event(2, user_id=7.5),
    event(2, user_id=True),
    event(2, user_id=10**50),
    event(2, user_id="\0"),
    event(2, event_name=None),
    event(2, event_name=""),
    event(2, event_name="x" * 51),
    event(2, event_name="\0"),
    event(2, user_id="u" * 51),
    event(2, event_id="A" * 32),
    event(2, event_id=event(1)["event_id"] + "\n" + event(1)["event_id"]),
    event(2, occurred_at=None),
    event(2, occurred_at="2026-01-01 10:00:00 Z"),
    event(2, occurred_at="2026-12-02 12:00:01Z"),
    event(2, occurred_at="2026-01-01T10:00:00"),
    event(2, occurred_at="2026-01-01T10:00:00.1234567Z"),
    event(2, occurred_at="2025-02-29T10:00:00Z"),
    event(2, occurred_at="2025-04-31T10:00:00Z"),
    event(2, occurred_at="2025-01-01T24:00:00Z"),
    event(2, occurred_at="2025-01-01T10:00:00+16:00"),
    event(2, occurred_at="2000-01-01T10:00:00Z"),
    event(2, occurred_at="2026-12-02T12:00:01Z"),
    event(2, occurred_at="٢٠٢٥-01-01T10:00:00Z"),
    event(2, properties=None),
    event(2, properties=[{}]),
    event(2, properties={"a": "\0"}),
    event(2, properties={"a": "x" * 10_000}),
    event(2, other=1),
    b"\n",
    b"{}\n",
    b'{"properties": {"a": [{}\n{}]}}\n',
    b"\xef\xbb\xbf" + json.dumps(event(2)).encode() + b"\n",
    b"[" + json.dumps(event(2)).encode() + b"]\n",
    json.dumps(event(2)).encode() * 2 + b"\n",
    json.dumps(event(2)).encode() + b"\r\n",
    b'{"event_id": "\xff"}\n',
    json.dumps(event(2, properties={"a": "?"})).encode().replace(b"?", b"\xff") + b"\n",
]


@pytest.mark.parametrize("line", UNUSUAL, ids=lambda line: str(line)[:60])
def test_what_is_unusual_is_looked_at_by_itself(line: dict[str, Any] | bytes) -> None:
    assert fast_rows(block(event(1), line, event(3))) is None


TEXTS = st.one_of(
    st.sampled_from(["", "u", "view", "x" * 60, "\\", "\t", "\n", "\0", "ü", "\ud800"]), st.text()
)
TIMES = st.one_of(
    st.datetimes(datetime(1999, 12, 30), datetime(2026, 12, 3), timezones=st.timezones()).map(
        datetime.isoformat
    ),
    st.from_regex(
        r"20[0-3]\d-[01]\d-[0-3]\dT[0-2]\d:[0-6]\d:[0-6]\d(\.\d{0,7})?(Z|[+-]\d\d:\d\d)",
        fullmatch=True,
    ),
    TEXTS,
)
VALUES = {
    "event_id": st.one_of(st.uuids().map(str), st.uuids().map(lambda uuid: uuid.hex), TEXTS),
    "user_id": st.one_of(TEXTS, st.integers(), st.none()),
    "event_name": TEXTS,
    "occurred_at": TIMES,
    "properties": st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | TEXTS,
        lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
        max_leaves=4,
    ),
    "unknown": st.none(),
}


@st.composite
def lines(draw: st.DrawFn) -> list[bytes]:
    """Most of them usual but for one thing or two; some are cut, or have more than one object."""
    drawn = []
    for number in range(draw(st.integers(1, 4))):
        changed = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=2))
        fields = event(number, **{name: draw(VALUES[name]) for name in changed})
        text = json.dumps(fields, ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
        drawn.append(
            text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) and number else text
        )
    return [draw(st.sampled_from([b"", b"  "])) + line + b"\n" for line in drawn]


@given(lines())
def test_both_ways_come_to_the_same_rows(raw: list[bytes]) -> None:
    parsed_block = block(*raw)
    rows = fast_rows(parsed_block)
    assert rows is None or rows == by_line(parsed_block)


NAMES = {"user_id": "user.id", "properties": "more"}
MAPPED, IGNORING = ColumnMapping(NAMES), ColumnMapping(NAMES, ("user.mail", "extra"))
USERS = ['"user":{"id":"u:"}', '"user":{"id":"u","mail":{"a:":":"}}', '"user":{"mail":":"}', ""]
EXTRAS = [
    '"extra":{"b":1,"b":[":"]}',
    '"extra":":"',
    '"more":{"n":1}',
    '"more":{"n":{"n":"\\":"}}',
    '"more": {}',
]
DOUBLES = ['"user":{"id":"v"}', '"event_name":"x"', '"event\\u005fname":"x\\u003a"', '"more":{}']


@st.composite
def mapped_lines(draw: st.DrawFn, extras: list[str]) -> list[bytes]:
    """With paths, ignored keys, and now and then a key that comes twice."""
    drawn = []
    for number in range(draw(st.integers(1, 3))):
        usual = json.dumps(event(number, user_id=..., properties=...), separators=(",", ":"))
        parts = [usual[1:-1], draw(st.sampled_from(USERS))]
        parts += draw(st.lists(st.sampled_from(extras), max_size=2, unique=True))
        parts += draw(st.lists(st.sampled_from(DOUBLES), max_size=1))
        drawn.append(("{" + ",".join(filter(None, parts)) + "}\n").encode())
    return drawn


@pytest.mark.parametrize("columns", [MAPPED, IGNORING], ids=["mapped", "ignoring"])
@given(data=st.data())
def test_both_ways_come_to_the_same_rows_where_names_are_mapped(
    columns: ColumnMapping, data: st.DataObject
) -> None:
    raw = data.draw(mapped_lines(EXTRAS if columns.ignored else EXTRAS[2:]))
    parsed_block = NdjsonBlock(1, raw, Decoders(columns))
    rows = fast_rows(parsed_block)
    assert rows is None or rows == by_line(parsed_block)
    assert all(has_each_key_once(line) for line in raw) or rows is None


def has_each_key_once(line: bytes) -> bool:
    repeated = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        repeated.append(len(dict(pairs)) < len(pairs))

    json.loads(line, object_pairs_hook=look)
    return not any(repeated)


@pytest.mark.parametrize("columns", [MAPPED, IGNORING], ids=["mapped", "ignoring"])
def test_names_that_are_mapped_are_taken_as_a_whole(columns: ColumnMapping) -> None:
    lines = [
        json.dumps(event(n, user_id=..., properties=..., user={"id": "u"}, more={"a": ":"}))
        for n in range(3)
    ]
    raw = [line.encode() + b"\n" for line in lines]
    assert NdjsonBlock(1, raw, Decoders(columns)).rows(VALIDATOR.latest()) is not None


@given(st.timedeltas(timedelta(hours=-40), timedelta(hours=40)), st.integers(-15, 15))
def test_nothing_is_taken_that_is_too_far_ahead(ahead: timedelta, offset: int) -> None:
    written = (NOW + ahead + timedelta(hours=offset)).replace(tzinfo=None)
    text = written.isoformat(sep=" " if offset % 2 else "T")
    parsed_block = block(event(1, occurred_at=f"{text}{offset:+03}:00"))
    assert fast_rows(parsed_block) is None or fast_rows(parsed_block) == by_line(parsed_block)


def test_of_a_long_line_the_rest_is_passed_over() -> None:
    long = b'{"event_id": "' + b"x" * MAX_LINE_BYTES + b'"}\n'
    blocks = ndjson_blocks(reader(long + b"{}\n"), ColumnMapping(), 500)
    parsed = [line for each in blocks for line in each.lines()]
    assert [(line.number, len(line.raw)) for line in parsed] == [(1, MAX_LINE_BYTES), (2, 3)]
    assert str(parsed[0].event) == "the line is over 4 MB long"


def test_lines_before_the_damage_are_given() -> None:
    text = "".join(json.dumps(event(n)) + "\n" for n in range(2_000)).encode()
    cut = gzip.compress(text)[:-2_000]
    blocks: list[NdjsonBlock] = []
    with gzip.open(io.BytesIO(cut)) as file, pytest.raises(DAMAGED):
        blocks.extend(ndjson_blocks(file, ColumnMapping(), 500))
    numbers = [line.number for each in blocks for line in each.lines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 500
