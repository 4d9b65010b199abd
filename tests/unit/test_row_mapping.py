"""Events that a mapping makes of rows."""

import json
from typing import Any

import pytest

from services.ingest.mapping.options import MappingOptions
from services.ingest.mapping.resolution import Sample, resolve
from services.ingest.mapping.row_format import JSON, TEXTS, VALUES, Row, decode_raw
from services.ingest.mapping.row_mapping import RowMapper
from services.ingest.validation import Invalid, RawEvent

TIME = "2025-01-31T09:00:00Z"
ROW = {"id": "7", "who": {"id": "u", "mail": "m"}, "what": "view", "at": TIME, "n": 1}
FIELDS = {"user_id": ("who.id",), "event_name": ("what",), "occurred_at": ("at",)}


def json_row(value: Any) -> Row:
    return decode_raw(value if isinstance(value, str) else json.dumps(value))


def mapper(row: Row, **options: Any) -> RowMapper:
    is_json = not all(isinstance(value, str) for value in row.values())
    sample = Sample(JSON, [row]) if is_json else Sample(TEXTS, [row], list(row))
    resolution = resolve(MappingOptions(**options), sample)
    assert resolution.problems == []
    return RowMapper(resolution.mapping)


def mapped(row: Row, **options: Any) -> RawEvent:
    return mapper(row, **options)(row)


def test_fields_come_from_paths_and_the_rest_are_properties() -> None:
    event = mapped(json_row(ROW), fields=FIELDS, properties={"*": None})
    assert event[1:4] == ("u", "view", TIME)
    assert json.loads(event.properties) == {"id": "7", "who": {"mail": "m"}, "n": 1}


def test_properties_have_the_names_of_their_keys_or_another() -> None:
    row = json_row(ROW)
    sources = {"who.mail": None, "n": "number"}
    event = mapped(row, fields=FIELDS, properties=sources, ignored=("id",))
    assert event.properties == '{"mail":"m","number":1}'


def test_ignored_values_are_left_out() -> None:
    assert mapped(json_row(ROW), fields=FIELDS, ignored=("*",)).properties == "{}"


def test_numbers_keep_their_digits() -> None:
    row = json_row(f'{{"event_name":"a","occurred_at":"{TIME}","x":1.10,"y":[1E5,{"9" * 30}]}}')
    event = mapped(row, properties={"*": None})
    assert event.properties == '{"x":1.10,"y":[1E5,' + "9" * 30 + "]}"


def test_the_first_source_with_a_value_is_used_and_others_are_properties() -> None:
    fields = {"user_id": ("login", "device")}
    rest = {"event_name": "a", "occurred_at": TIME}
    row = json_row({"login": None, "device": "d"} | rest)
    event = mapped(row, fields=fields, properties={"*": None})
    assert (event.user_id, json.loads(event.properties)) == ("d", {"login": None})


def test_users_that_only_later_rows_have_are_users() -> None:
    first = json_row({"event_name": "a", "occurred_at": TIME, "device": "d"})
    later = json_row({"event_name": "a", "occurred_at": TIME, "device": "d", "login": "u"})
    each = mapper(first, fields={"user_id": ("login", "device")}, properties={"*": None})
    assert each(first)[1:] == ("d", "a", TIME, "{}")
    assert each(later)[1:] == ("u", "a", TIME, '{"device":"d"}')
    named = json_row({"event_name": "a", "occurred_at": TIME, "user_id": "u", "properties": {}})
    assert mapper(first, properties={"*": None})(named)[1:] == ("u", "a", TIME, "{}")


def test_of_several_keys_in_an_object_the_used_one_is_no_property() -> None:
    row = json_row({"event_name": "a", "occurred_at": TIME, "who": {"arn": "x", "name": "n"}})
    event = mapped(row, fields={"user_id": ("who.arn", "who.name")}, properties={"*": None})
    assert (event.user_id, event.properties) == ("x", '{"who":{"name":"n"}}')


def test_a_constant_stands_in_for_missing_values() -> None:
    row = json_row({"event_name": None, "occurred_at": TIME, "n": 1})
    assert mapped(row, constants={"event_name": "page"}, ignored=("n",)).event_name == "page"


def test_an_object_is_mapped_without_the_keys_that_are_fields() -> None:
    row = json_row(
        {"event": "Play", "properties": {"time": 1736500000, "distinct_id": "d", "n": 1}}
    )
    fields = {
        "event_name": ("event",),
        "user_id": ("properties.distinct_id",),
        "occurred_at": ("properties.time",),
    }
    event = mapped(row, fields=fields)
    assert (event.user_id, event.properties) == ("d", '{"n":1}')


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"extra": 1}, "extra is not mapped: add --property extra or --ignore extra"),
        ({"who": {"id": "u", "x": 1}}, "who.x is not mapped"),
        ({"who": "text"}, "who is not mapped"),
    ],
)
def test_values_that_no_option_names_are_refused(more: dict[str, Any], reason: str) -> None:
    options = {"fields": FIELDS, "ignored": ("id", "n", "who.mail")}
    each = mapper(json_row(ROW), **options)
    with pytest.raises(Invalid, match=reason):
        each(json_row(ROW | more))
    assert each(json_row({"what": "view", "at": TIME, "who": None})).user_id is None


def test_two_values_of_one_property_are_refused() -> None:
    row = json_row({"event_name": "a", "occurred_at": TIME, "properties": {"n": 1}, "n": 2})
    with pytest.raises(Invalid, match="properties has n twice: use --property SOURCE=NAME"):
        mapped(row, properties={"*": None})
    same = json_row({"event_name": "a", "occurred_at": TIME, "properties": {"n": 1}, "n": 1})
    assert mapped(same, properties={"*": None}).properties == '{"n":1}'


def test_columns_of_text_become_numbers_booleans_and_json() -> None:
    row = {
        "event_name": "a",
        "occurred_at": TIME,
        "n": "1.50",
        "zip": "01234",
        "on": "true",
        "o": '{"a": 1.0}',
        "empty": "",
        "null": "NULL",
    }
    event = mapped(row, properties={"*": None}, nulls=("NULL",))
    assert event.properties == '{"n":1.50,"zip":"01234","on":true,"o":{"a": 1.0}}'


def test_a_word_for_no_value_leaves_other_values_of_json_alone() -> None:
    values = {"empty": "", "none": None, "word": "NULL", "list": ["NULL"]}
    row = json_row({"event_name": "a", "occurred_at": TIME, **values})
    event = mapped(row, properties={"*": None}, nulls=("NULL",))
    assert event.properties == '{"empty":"","none":null,"list":["NULL"]}'


def test_a_cell_of_another_type_than_its_column_is_text() -> None:
    row = {"event_name": "a", "occurred_at": TIME, "n": "1"}
    each = mapper(row, properties={"*": None})
    assert each(row | {"n": "1,5"}).properties == '{"n":"1,5"}'


def test_keys_of_json_in_a_column_are_sources() -> None:
    row = {"event_name": "a", "occurred_at": TIME, "properties": '{"u": "x", "n": 1.0}'}
    event = mapped(row, fields={"user_id": ("properties.u",)})
    assert (event.user_id, event.properties) == ("x", '{"n":1.0}')


def test_lists_of_keys_and_values_become_objects() -> None:
    params = [
        {"key": "id", "value": {"string_value": None, "int_value": "9007199254740993"}},
        {"key": "page", "value": {"string_value": "/p"}},
    ]
    row = json_row({"event_name": "a", "occurred_at": TIME, "params": params})
    event = mapped(row, fields={"properties": ("params",)}, pairs=("params",))
    assert json.loads(event.properties) == {"id": 9007199254740993, "page": "/p"}


@pytest.mark.parametrize(
    ("params", "properties"),
    [
        ([{"key": "n", "value": {"int_value": "x"}}], {"n": "x"}),
        ([{"key": "n", "value": {"int_value": None}}, None], {"n": None}),
        ([{"key": "n"}, {"key": "m", "value": 1}], {"n": None, "m": 1}),
        (
            [{"key": "n", "value": {"int_value": "1", "string_value": "x"}}],
            {"n": {"int_value": "1", "string_value": "x"}},
        ),
        (
            [{"key": "n", "value": {"set_timestamp_micros": "5"}}],
            {"n": {"set_timestamp_micros": "5"}},
        ),
    ],
)
def test_nothing_of_a_list_of_keys_and_values_is_lost(params: Any, properties: Any) -> None:
    row = json_row({"event_name": "a", "occurred_at": TIME, "params": params})
    event = mapped(row, fields={"properties": ("params",)}, pairs=("params",))
    assert json.loads(event.properties) == properties


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ([{"key": "n", "value": 1}, {"key": "n", "value": 2}], "must not have a key twice"),
        ([1], "must be a list of objects with `key` and `value`"),
        ([{"value": 1}], "must be a list of objects with `key` and `value`"),
        ([{"key": None, "value": 1}], "must be a list of objects with `key` and `value`"),
    ],
)
@pytest.mark.parametrize("others", [{}, {"n": 1}])
def test_an_invalid_list_of_keys_and_values_is_refused(
    params: Any, reason: str, others: dict[str, Any]
) -> None:
    """As properties, and as one of them."""
    row = json_row({"event_name": "a", "occurred_at": TIME, "params": params} | others)
    fields = {} if others else {"properties": ("params",)}
    with pytest.raises(Invalid, match=f"properties {reason}"):
        mapped(row, fields=fields, pairs=("params",), properties={"*": None})


def test_derived_ids_depend_on_sources_and_the_name_of_the_event() -> None:
    row = {"event_name": "a", "occurred_at": TIME, "id": "1"}
    options = {"id_sources": ("id",), "ignored": ("note",)}
    first = mapped(row, **options).event_id
    assert mapped(row | {"occurred_at": "2026-01-01T00:00:00Z"}, **options).event_id == first
    assert mapped(row | {"event_name": "b"}, **options).event_id != first
    assert mapped(row | {"id": "2"}, **options).event_id != first
    with pytest.raises(Invalid, match="event_id is missing: the row has no id"):
        mapper(row, **options)(row | {"id": ""})


def test_a_word_for_no_value_is_no_source_of_an_id() -> None:
    """Otherwise all rows with it would be one event."""
    row = {"event_name": "a", "occurred_at": TIME, "id": "1", "line": "2"}
    with pytest.raises(Invalid, match="event_id is missing: the row has no id"):
        mapper(row, id_sources=("id",), ignored=("line",), nulls=("NULL",))(row | {"id": "NULL"})
    each = mapper(row, id_sources=("id", "line"), nulls=("NULL",))
    assert each(row | {"id": "NULL"}).event_id == each(row | {"id": ""}).event_id


def test_without_an_id_equal_rows_are_different_events() -> None:
    row = {"event_name": "a", "occurred_at": TIME}
    each, again = mapper(row), mapper(row)
    ids = [each(row).event_id, each(row).event_id]
    assert ids[0] != ids[1]
    assert [again(row).event_id, again(row).event_id] == ids


def test_the_id_of_a_row_is_the_same_in_csv_and_json_files_of_any_layout() -> None:
    one = json_row(f'{{"event_name":"a","occurred_at":"{TIME}"}}')
    other = json_row(f'{{ "occurred_at": "{TIME}", "event_name": "a" }}')
    assert mapped(one, ignored=("x",)).event_id == mapped(other, ignored=("x",)).event_id


def test_values_of_parquet_are_written_as_json() -> None:
    row = {"event_name": "a", "occurred_at": TIME, "x": {"b": [1.5]}, "none": None}
    mapping = resolve(
        MappingOptions(properties={"*": None}), Sample(VALUES, [row], list(row))
    ).mapping
    assert RowMapper(mapping)(row).properties == '{"x":{"b": [1.5]}}'


def test_a_key_of_json_may_have_the_name_of_a_column() -> None:
    row = {
        "event_name": "a",
        "occurred_at": TIME,
        "properties": '{"n": {"m": 1}, "u": 1}',
        "n": "5",
    }
    event = mapped(row, fields={"user_id": ("properties.u",)}, properties={"n": "number"})
    assert event.properties == '{"n":{"m": 1},"number":5}'


def test_an_object_in_a_text_may_have_spaces_around_it() -> None:
    row = {"event_name": "a", "occurred_at": TIME, "properties": ' {"a":1} ', "n": "7"}
    event = mapped(row, properties={"*": None})
    assert json.loads(event.properties) == {"a": 1, "n": 7}
