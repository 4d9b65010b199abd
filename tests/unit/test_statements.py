"""Named SQL statements of files."""

import pytest

from repo.statements import compose, statements


def test_a_statement_begins_with_its_name() -> None:
    named = statements("rollups")
    assert named["rollups_state"].startswith("/* rollups_state */ ")
    assert "-- name:" not in "".join(named.values())


def test_each_statement_of_a_file_has_its_own_text() -> None:
    named = statements("fold")
    assert {"fold_lock", "fold_state", "fold_switch"} <= named.keys()
    assert len(set(named.values())) == len(named)


def test_an_unknown_file_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        statements("absent")


def test_parts_are_inserted_as_they_are() -> None:
    composed = compose(
        "/* name */ select '{{}}', %(n)s from ({source}) as s {join}",
        source="select '{join}', 1 %% 2",
        join="",
    )
    assert composed == "/* name */ select '{}', %(n)s from (select '{join}', 1 %% 2) as s "


def test_each_part_is_needed() -> None:
    with pytest.raises(KeyError):
        compose("select {column}", table="events")
