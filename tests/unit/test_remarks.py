"""Headers with what has no place in rows."""

import json

from common.remarks import Unknown


def test_unknown_names_are_json_in_ascii() -> None:
    header = Unknown(["größe\n"], ["a\x7f"]).header()
    assert header == '{"events":["gr\\u00f6\\u00dfe\\n"],"properties":["a\\u007f"]}'


def test_unknown_names_are_left_out_of_a_header_that_is_too_long() -> None:
    names = [f"{n:03}" for n in range(500)]
    header = Unknown(names, ["short", "x" * 2_000]).header()
    assert len(header) <= 1_000
    shown = json.loads(header)
    assert shown["events"] == names[: len(shown["events"])]
    assert len(shown["events"]) == 162
    assert json.loads(Unknown([], ["x" * 2_000, "short"]).header())["properties"] == ["short"]
