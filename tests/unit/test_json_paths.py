"""Paths of keys in JSON objects."""

import pytest

from services.ingest.json_paths import has_path, path_of, paths_in, source_of, suggest


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("user", ("user",)),
        ("user.id", ("user", "id")),
        ('"user.id"', ("user.id",)),
        ('a."b.""c"""', ("a", 'b."c"')),
    ],
)
def test_a_path_and_its_text(source: str, path: tuple[str, ...]) -> None:
    assert path_of(source) == path
    assert source_of(path) == source


@pytest.mark.parametrize("source", ["", ".", "a.", ".a", 'a"', '""'])
def test_other_texts_are_no_paths(source: str) -> None:
    with pytest.raises(ValueError, match="is not a path of keys"):
        path_of(source)


def test_a_path_to_null_exists() -> None:
    value = {"user": {"id": None}}
    assert has_path(value, ("user", "id"))
    assert not has_path(value, ("user", "id", "more"))
    assert not has_path(value, ("other",))


def test_objects_come_before_their_values() -> None:
    value = {"a": {"b": 1}, "c": [{"d": 2}]}
    assert list(paths_in(value)) == [("a",), ("a", "b"), ("c",)]


def test_a_suggestion_names_the_closest_name() -> None:
    names = ["user_id", "time"]
    assert suggest("userid", names) == "; did you mean user_id? there are user_id, time"
    assert suggest("zzz", names) == "; there are user_id, time"
