"""The decoder of NDJSON lines, made from a column mapping."""

import msgspec
import pytest
from msgspec import UNSET

from services.ingest.input_rows import ColumnMapping, UnreadableInput
from services.ingest.ndjson_decoder import ABSENT, LineShape
from services.ingest.validation import FIELDS


def decoded(shape: LineShape, line: str) -> dict[str, object]:
    values = shape.values_of(msgspec.json.decode(line, type=shape.type))
    return dict(zip(FIELDS, values, strict=True))


def test_fields_are_read_by_their_names() -> None:
    values = decoded(LineShape(ColumnMapping()), '{"event_id":"e","user_id":7,"event_name":"view"}')
    assert (values["event_id"], values["user_id"], values["event_name"]) == ("e", 7, "view")
    assert values["occurred_at"] is None
    assert values["properties"] is ABSENT


def test_mapped_fields_are_read_at_their_paths() -> None:
    shape = LineShape(ColumnMapping({"user_id": "user.id", "event_name": "type"}))
    values = decoded(shape, '{"user":{"id":"u"},"type":null}')
    assert (values["user_id"], values["event_name"]) == ("u", None)
    assert shape.mapped == {"user_id": ("user", "id"), "event_name": ("type",)}


def test_a_missing_mapped_key_differs_from_null() -> None:
    shape = LineShape(ColumnMapping({"user_id": "user.id"}))
    assert decoded(shape, '{"user":{}}')["user_id"] is UNSET
    assert decoded(shape, "{}")["user_id"] is UNSET


def test_unknown_keys_are_refused_unless_ignored() -> None:
    line = '{"extra":1}'
    with pytest.raises(msgspec.ValidationError, match="extra"):
        decoded(LineShape(ColumnMapping()), line)
    assert decoded(LineShape(ColumnMapping(ignored=("extra",))), line)["event_id"] is None


def test_a_text_that_is_no_path_is_refused() -> None:
    with pytest.raises(UnreadableInput, match=r"a\. is not a path of keys"):
        LineShape(ColumnMapping({"user_id": "a."}))
