"""Which column of a table is which field of an event."""

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
    mapping = make_mapping(CLICKS, NAMES, property_columns=["page"], tz="UTC")
    assert mapping == TableMapping(("id",), "kind", "at", "user_id", None, ("page",), None, None)
    assert mapping.columns == ["id", "kind", "at", "user_id", "page"]


def test_a_stored_mapping_is_read_back() -> None:
    mapping = make_mapping(CLICKS, NAMES, property_columns=["page"])
    assert stored_mapping(CLICKS, mapping.as_json()) == mapping
    without_page = table(id="int8", kind="text", at="timestamptz", user_id="text")
    with pytest.raises(CannotAdopt, match="clicks has no stored column page"):
        stored_mapping(without_page, mapping.as_json())


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
