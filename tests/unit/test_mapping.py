"""Which column of a table is which field of an event."""

from typing import Any

import pytest

from repo.adopt.catalog import CannotAdopt, Column, Table
from repo.adopt.mapping import TableMapping, make_mapping, stored_mapping


def table(key: tuple[str, ...] = ("id",), **types: str) -> Table:
    columns = {
        name: Column(name, base, base, base, "S" if base == "text" else "N")
        for name, base in types.items()
    }
    return Table(1, "shop", "clicks", False, columns, key, 0, 0)


CLICKS = table(id="int8", kind="text", at="timestamptz", user_id="text", page="text", n="int4")
NAMES = {"event_name": "kind", "occurred_at": "at"}


def test_fields_are_columns_by_name_and_the_primary_key() -> None:
    mapping = make_mapping(CLICKS, NAMES, properties={"page": None}, tz="UTC")
    assert mapping == TableMapping(("id",), "kind", "at", "user_id", None, ("page",), None, None)
    assert mapping.columns == ["id", "kind", "at", "user_id", "page"]


def test_a_stored_mapping_is_read_back() -> None:
    mapping = make_mapping(CLICKS, NAMES, properties={"page": None})
    assert stored_mapping(CLICKS, mapping.as_json()) == mapping
    without_page = table(id="int8", kind="text", at="timestamptz", user_id="text")
    with pytest.raises(CannotAdopt, match="clicks has no stored column page"):
        stored_mapping(without_page, mapping.as_json())


def test_all_columns_but_those_that_are_used_or_ignored_can_be_properties() -> None:
    properties = {"page": "path", "*": None}
    assert make_mapping(CLICKS, NAMES, properties=properties).property_columns == ("page", "n")
    mapping = make_mapping(CLICKS, NAMES, properties=properties, ignored=["n"])
    assert (mapping.property_columns, mapping.property_names) == (("page",), {"page": "path"})
    assert stored_mapping(CLICKS, mapping.as_json()) == mapping


def test_a_constant_takes_the_place_of_a_column() -> None:
    mapping = make_mapping(CLICKS, {"occurred_at": "at"}, constants={"event_name": "click"})
    assert (mapping.event_name, mapping.constants) == (None, {"event_name": "click"})
    assert mapping.columns == ["id", "at", "user_id"]
    assert stored_mapping(CLICKS, mapping.as_json()) == mapping


def test_what_is_stored_is_as_in_earlier_versions_without_these_options() -> None:
    assert list(make_mapping(CLICKS, NAMES).as_json()) == [
        "event_id", "event_name", "occurred_at", "user_id", "properties", "property_columns", "tz",
        "epoch",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"constants": {"user_id": "ä" * 129}}, "user_id of --set must be at most 256 bytes long"),
        ({"properties": {"page": "n", "n": None}}, "two columns would be the property n"),
        ({"ignored": ["pag"]}, "clicks has no stored column pag"),
        ({"ignored": ["kind"]}, "--ignore: kind is the source of a field or property"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(CannotAdopt, match=message):
        make_mapping(CLICKS, NAMES, **options)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({}, "add --map occurred_at=COLUMN, one of id, kind"),
        ({**NAMES, "user_id": "usr"}, "clicks has no stored column usr"),
        ({**NAMES, "occurred_at": "kind"}, "kind is text, which cannot be occurred_at"),
        ({**NAMES, "occurred_at": "n"}, "--epoch s, ms, us or ns"),
        ({**NAMES, "properties": "n"}, "n is int4, which cannot be properties"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(names: dict[str, str], message: str) -> None:
    with pytest.raises(CannotAdopt, match=message):
        make_mapping(CLICKS, names)


def test_local_times_need_a_zone() -> None:
    local = table(id="int8", kind="text", at="timestamp")
    with pytest.raises(CannotAdopt, match="name its time zone with --tz"):
        make_mapping(local, NAMES)
    assert make_mapping(local, NAMES, tz="Europe/Berlin").tz == "Europe/Berlin"


def test_rows_without_a_key_cannot_be_told_apart() -> None:
    keyless = table((), id="int8", kind="text", at="timestamptz")
    with pytest.raises(CannotAdopt, match="--map event_id=COLUMN"):
        make_mapping(keyless, NAMES)
    assert make_mapping(keyless, {**NAMES, "event_id": "id"}).event_id == ("id",)
