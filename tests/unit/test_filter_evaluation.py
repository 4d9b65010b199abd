"""Filters on chunks: which events match, for each rule of the language, and beside plain Python."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.filters import Name, conditions, negation
from common.remarks import Note
from repo.columns.chunk import Chunk, ColumnKey
from repo.columns.filter_evaluation import (
    IdSet,
    Skipped,
    columns_of,
    field_conditions,
    matches,
    notes,
    paths_of,
    skipped_values,
)
from tests import where_oracle
from tests.chunks import chunk_of, event_fields, matching, parsed
from tests.example_counts import examples
from tests.where_oracle import Event, load
from tests.where_strategies import Case, cases

DIGITS = "7" * 60_000


def event(properties: str) -> Event:
    return Event("u1", "view", load(properties))


def value_chunk(*values: str) -> Chunk:
    """Events whose property `a` has these values, in JSON; the empty text means no property."""
    return chunk_of([event(f'{{"a": {value}}}' if value else "{}") for value in values])


def values_matching(where: str, *values: str) -> list[str]:
    hits = matching(where, value_chunk(*values))
    return [value for value, hit in zip(values, hits, strict=True) if hit]


@pytest.mark.parametrize(
    ("where", "hits", "misses"),
    [
        # A bare literal matches that text and the number or boolean that it spells.
        ("a:5", ["5", "5.0", "5e0", '"5"'], ['"5.0"', "50", "true", ""]),
        ("a:5.0", ["5", "5.0", '"5.0"'], ['"5"']),
        ('a:"5"', ['"5"'], ["5", '"5 "', ""]),
        ("a:true", ["true", '"true"'], ["1", "false", '"True"', ""]),
        ("a:false", ["false", '"false"'], ["0", "true", '""', "null", ""]),
        ('a:"true"', ['"true"'], ["true"]),
        ("a:True", ['"True"'], ["true", '"true"']),
        ("a:1", ["1", '"1"'], ["true"]),
        ("a:0", ["0", "-0", "0.0", '"0"'], ["false", '""', '"-0"', "null"]),
        ("a:null", ['"null"'], ["null", ""]),
        ("a:010", ['"010"'], ["10", '"10"']),
        ("a:x,5", ['"x"', "5", '"5"'], ['"y"', '"x,5"']),
        # Equality and starts-with are case-sensitive; nothing is trimmed or normalised.
        ("a:x", ['"x"'], ['"X"', '" x"', '"x "', '"xy"']),
        ("a:é", ['"é"'], ['"e\\u0301"', '"É"']),
        ('a:""', ['""'], ["null", "", '" "', "0", "false", "[]", "{}"]),
        ("a:\U0001f600", ['"\U0001f600"', '"\\ud83d\\ude00"'], ['"\ue000"']),
        # Whatever has a value.
        ("a:*", ['""', "0", "false", '["x"]', "[null,0]"], ["", "null", "[]", "{}", "[null]"]),
        ("a:*", [], ['{"b": 1}', '[{"b": 1}]', "[[], [[null]]]"]),
        # Comparisons see numbers only.
        ("a:>5", ["5.000000000000000001", "6"], ["5", "-6", '"6"', "true", "", "null"]),
        ("a:>=5", ["5", "5.0", "1e400"], ["4.999", "-1e400", '"5"']),
        ("a:<5", ["4.999", "-1e400", "-0"], ["5", "5e0", '"4"', "false", "null", ""]),
        ("a:<=5", ["5", "0"], ["5.001", '"0"', "false"]),
        ("a:5..7", ["5", "7", "7.0", "6.5"], ["4.9", "7.01", '"6"', "true"]),
        ("a:-1..1", ["-1", "0", "1"], ["-1.5", "true", "false", '"0"']),
        # Starts-with and contains see texts only.
        ("a:^5", ['"5"', '"50"'], ["5", "50", "[5]"]),
        ("a:^tr", ['"true"'], ["true"]),
        ("a:^x,yy", ['"x"', '"xz"', '"yyz"'], ['"X"', '"y"', '"ax"', '""', '"w"']),
        ("a:^ü", ['"ü"', '"über"'], ['"Ü"', '"u"', '"ý"', '"v"']),
        ("a:^\U0001f600", ['"\U0001f600!"'], ['"\ue000"', '"\uffff"', '"\U0001f601"']),
        ("a:~5", ['"5"', '"a50"'], ["5", "15"]),
        ("a:~AB", ['"ab"', '"xaBx"'], ['"a b"', '"a"', '""']),
        ("a:~ab,cd", ['"AB"', '"xCD"'], ['"ac"']),
        # Contains folds case in full, in texts and values.
        ("a:~ss", ['"Straße"', '"STRASSE"', '"\\u017fS"', '"ẞ"'], ['"s"']),
        ("a:~ß", ['"Strasse"', '"ß"', '"STRASSE"'], ['"s"']),
        ("a:~STRASSE", ['"Die Straße"'], ['"Strase"']),
        ("a:~i", ['"I"', '"İ"', '"i"'], ['"\\u0131"']),
        ("a:~İ", ['"İ"', '"i\\u0307"', '"I\\u0307x"'], ['"i"', '"I"', '"\\u0131"']),
        ("a:~k", ['"K"', '"\\u212a"'], ['"c"']),
        ("a:~\u212a", ['"k"', '"OK"'], ['"c"']),
        ("a:~Σ", ['"Σ"', '"ς"', '"\\u03c3"'], ['"s"']),
        ("a:~ff", ['"ﬃ"', '"FF"'], ['"f"']),
        ("a:~ÜBER", ['"über"', '"hinÜber"'], ['"uber"', '"u\\u0308ber"']),
        ('a:~"%"', ['"50%"'], ['"50"']),
        ('a:~".","*"', ['"a.b"', '"*"'], ['"ab"']),
        # A condition on a list holds if it holds for an element, however deep.
        ("a:x", ['["x"]', '["y", "x"]', '[["y", ["x"]]]', '[null, {"b": 1}, "x"]'], ['["y"]']),
        ("a:>5", ["[1, 6]", '["x", [7]]'], ["[1, 5]", '["6"]', "[]"]),
        ("a:5..7", ["[1, 6, 9]"], ["[1, 9]"]),
        ("a:^x", ['[5, "xy"]'], ['[5, "y"]']),
        # Its negation holds if it holds for none, missing values included.
        ("-a:x", ['["y"]', "[]", "", "null", "{}", "5", '"X"'], ['["y", "x"]', '"x"']),
        ("-a:5", ['"50"', "4", "[4]"], ["5.0", '"5"', "[4, 5]"]),
        ("-a:>5", ["5", '"6"', "null", "", "[1, 2]"], ["6", "[1, 6]"]),
        ("-a:^x", ["5", '"y"', ""], ['"x"', '["y", "xy"]']),
        ("-a:~x", ["true", '"y"', ""], ['"aX"']),
        ("-a:*", ["", "null", "[]", "{}"], ["0", "false", '""', "[0]"]),
        ("not -a:x", ['"x"'], ['"y"', ""]),
        ("-(a:x or a:y)", ['"z"', ""], ['"x"', '"y"', '["z", "y"]']),
        ("-(a:x a:y)", ['"x"', '"y"', ""], ['["x", "y"]']),
        ("a:x a:y", ['["x", "y"]'], ['"x"', '"y"']),
        ("-a:x or a:y", ['["x", "y"]', ""], ['"x"']),
        # Numbers are compared by their exact values.
        ("a:9007199254740993", ["9007199254740993"], ["9007199254740992", "9007199254740994"]),
        ("a:>9007199254740992", ["9007199254740993"], ["9007199254740992"]),
        ("a:>9007199254740992.5", ["9007199254740993"], ["9007199254740992"]),
        ("a:12345678901234567890", ["12345678901234567890.0"], ["12345678901234567891"]),
        ("a:>12345678901234567890", ["12345678901234567890.1"], ["12345678901234567890"]),
        ("a:>=9223372036854775808", ["9223372036854775808"], ["9223372036854775807"]),
        ("a:>9223372036854775807", ["9223372036854775808"], ["9223372036854775807"]),
        ("a:<=-9223372036854775809", ["-9223372036854775809"], ["-9223372036854775808"]),
        ("a:0.1", ["0.1", "0.10", "1e-1"], ["0.1000000000000000055511151231257827"]),
        ("a:0.30000000000000004", ["0.30000000000000004"], ["0.3"]),
        ("a:>0.4999999999999999999999999999999999", ["0.5"], ["0.4"]),
        ("a:>=0.5000000000000000000000000000000001", ["0.6"], ["0.5"]),
        ("a:1e400", ["1e400", '"1e400"'], ["1e401", '"1e+400"', "1e399"]),
        ("a:>1e400", ["1.1e400", "1e401"], ["1e400", "5"]),
        ("a:1e-400", ["1e-400"], ["0", "1e-401"]),
        ("a:0..1e-399", ["1e-400", "0"], ["-1e-400", "1e-398"]),
        ("a:>1e59999", [DIGITS, f"[{DIGITS}]"], ["1e59999", f"-{DIGITS}"]),
        ("a:<-1e59999", [f"-{DIGITS}"], [DIGITS, "0"]),
    ],
)
def test_values_match(where: str, hits: list[str], misses: list[str]) -> None:
    assert values_matching(where, *hits, *misses) == hits
    for value in hits:
        assert values_matching(where, value) == [value]
    for value in misses:
        assert values_matching(where, value) == []


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_the_least_and_greatest_integers_of_a_column(bits: int) -> None:
    least, greatest = str(-(2 ** (bits - 1))), str(2 ** (bits - 1) - 1)
    for where in ("a:>=-1", f"a:>={greatest}", f"a:{greatest}", f"a:0..{greatest}", "a:2..1e400"):
        assert values_matching(where, greatest, least) == [greatest]
    for where in ("a:<=1", f"a:<={least}", f"a:{least}", f"a:{least}..0", "a:-1e400..-2"):
        assert values_matching(where, greatest, least) == [least]
    for where in (f"a:>{greatest}", f"a:<{least}", "a:0..1"):
        assert values_matching(where, greatest, least) == []
    for where in (f"a:>={least}", f"a:<={greatest}", f"a:{least}..{greatest}"):
        assert values_matching(where, greatest, least) == [greatest, least]


@pytest.mark.parametrize(
    ("where", "misses"),
    [
        ("a:>1e131071", ["9223372036854775807"]),
        ("a:<-1e131071", ["-9223372036854775808"]),
        ("a:1e131071", ["1"]),
        ("a:1e-16383", ["0"]),
        ("a:>9223372036854775807", ["9223372036854775807", "127"]),
        ("a:<-9223372036854775808", ["-9223372036854775808", "-128"]),
        ("a:>127", ["127"]),
        ("a:128", ["-128", "127"]),
        ("a:<-128", ["-128"]),
        ("a:0.5", ["1", "0"]),
        ("a:0.1..0.9", ["0", "1"]),
    ],
)
def test_limits_beyond_the_integers_of_a_column(where: str, misses: list[str]) -> None:
    assert values_matching(where, *misses) == []
    assert values_matching(f"-{where}", *misses) == misses


@pytest.mark.parametrize(
    ("where", "properties", "expected"),
    [
        ("cart.total:>20", '{"cart": {"total": 21}}', True),
        ("cart.total:>20", '{"cart.total": 21}', False),
        ('"cart.total":>20', '{"cart.total": 21}', True),
        ('"cart.total":>20', '{"cart": {"total": 21}}', False),
        ("cart:*", '{"cart": {"total": 21}}', False),
        ("cart.total:*", '{"cart": 5}', False),
        ("items.sku:x", '{"items": [{"sku": "y"}, {"sku": "x"}]}', True),
        ("items.sku:x", '{"items": [[{"sku": ["y", ["x"]]}]]}', True),
        ("items.sku:x", '{"items": {"sku": "x"}}', True),
        ("-items.sku:x", '{"items": [{"sku": "y"}, {"sku": "x"}]}', False),
        ("-items.sku:x", '{"items": [{"sku": "y"}, {"id": "x"}]}', True),
        ("items.sku:x items.id:2", '{"items": [{"sku": "x", "id": 1}, {"id": 2}]}', True),
        ("items:5", '{"items": [{"sku": "x"}, 5]}', True),
        ("items.0:5", '{"items": [5]}', False),
        ('"":x', '{"": "x"}', True),
        ('a."":x', '{"a": {"": "x"}}', True),
        ('"":x', '{"a": "x"}', False),
        ("A:x", '{"a": "x"}', False),
        ('"@user":x', '{"@user": "x"}', True),
        ('"a\\"b\\\\":x', '{"a\\"b\\\\": "x"}', True),
        ("größe:5", '{"größe": 5}', True),
        ("a.b.c.d.e:1", '{"a": {"b": {"c": {"d": {"e": 1}}}}}', True),
    ],
)
def test_paths(where: str, properties: str, expected: bool) -> None:
    assert matching(where, chunk_of([event(properties)])) == [expected]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("@event:view", [True, False, False, False]),
        ("@event:view,buy", [True, False, False, True]),
        ("-@event:view", [False, True, True, True]),
        ("@event:5", [False, False, True, False]),
        ('@event:"5"', [False, False, True, False]),
        ("@event:>=5", [False, False, False, False]),
        ("@event:^V", [False, True, False, False]),
        ("@event:~VIEW", [True, True, False, False]),
        ("@event:*", [True, True, True, True]),
        ("@event:other", [False, False, False, False]),
        ("@user:*", [True, True, False, True]),
        ("-@user:*", [False, False, True, False]),
        ("@user:u1", [True, False, False, False]),
        ("-@user:u1", [False, True, True, True]),
        ("@user:5", [False, False, False, True]),
        ("@user:0..9", [False, False, False, False]),
        ("@user:~U1", [True, True, False, False]),
        ("@user:u1 or @event:5", [True, False, True, False]),
    ],
)
def test_the_fields_of_events(where: str, expected: list[bool]) -> None:
    fields = [("u1", "view"), ("U1", "View"), (None, "5"), ("5", "buy")]
    assert matching(where, chunk_of([Event(*each, {}) for each in fields])) == expected


def test_many_values_of_a_text_and_of_a_number() -> None:
    numbers = [str(number) for number in range(0, 100, 3)]
    where = f"a:{','.join(numbers)}"
    values = [str(number) for number in range(100)]
    assert values_matching(where, *values) == numbers
    quoted = [f'"{value}"' for value in values]
    assert values_matching(where, *quoted) == [f'"{number}"' for number in numbers]
    assert values_matching(where, *values, "1e400") == numbers
    assert values_matching(f"a:^{','.join(numbers[5:20])}", *quoted) == [
        f'"{number}"' for number in numbers[5:20]
    ]
    assert values_matching("a:~1", *quoted) == [text for text in quoted if "1" in text]


def test_contains_in_a_short_part_of_a_chunk() -> None:
    texts = [f'"{letter}{number % 3}"' for number, letter in enumerate("ihgfedcbajklmnopqrst")]
    chunk = value_chunk(*texts)
    for start in range(20):
        for where, character in (("a:~0", "0"), ("a:~A,B,C,D,E,F,G,H,I,J,K", "")):
            assert matching(where, chunk, start, start + 1) == [
                character in texts[start] and (bool(character) or texts[start][1] <= "k")
            ]


@pytest.mark.parametrize("size", [0, 1, 3, 8, 9, 100])
def test_sets_of_ids(size: int) -> None:
    ids = IdSet(range(5, 5 + 2 * size, 2))
    values = np.array([0, 4, 5, 6, 7, 203, 204, 205, 2**31, 2**32 - 1], np.uint32)
    expected = [5 <= value < 5 + 2 * size and value % 2 == 1 for value in values.tolist()]
    assert ids.contains(values).tolist() == expected


def test_the_result_may_be_changed() -> None:
    chunk = value_chunk("true", "false", "true")
    for where in ("a:true", "a:*", "-a:x", "a:true or a:false", "@event:*"):
        before = matching(where, chunk)
        mask = matches(parsed(where), chunk, event_fields(parsed(where)))
        mask[:] = False
        assert matching(where, chunk) == before


def test_columns_and_paths() -> None:
    where = parsed("a:x b:>5 -(c.d:5,true or e:*) g:^x h:~x @event:view @user:*")
    assert paths_of(where) == {("a",), ("b",), ("c", "d"), ("e",), ("g",), ("h",)}
    kinds = Counter(key.path for key in columns_of(where))
    assert kinds == {("a",): 1, ("b",): 3, ("c", "d"): 3, ("e",): 3, ("g",): 3, ("h",): 3}
    assert ColumnKey(("a",), "text") in columns_of(where)
    assert [str(each) for each in field_conditions(where)] == ["@event:view"]
    assert len(list(conditions(where))) == 8


def test_skipped_values() -> None:
    chunk = value_chunk("5", '"5"', '["x", 5, "y"]', "true", "null", "[true, false]", '"z"')
    everything = np.ones(7, np.bool_)
    amount = Name(("a",))
    expected = {Skipped(amount, "number", "text"): 3, Skipped(amount, "number", "boolean"): 2}
    assert skipped_values(parsed("a:>4"), chunk, everything) == expected
    assert skipped_values(parsed("-a:1..4 a:<9"), chunk, everything) == expected
    some = np.array([True, True, False])
    assert skipped_values(parsed("a:>4"), chunk, some, 1, 4) == {
        Skipped(amount, "number", "text"): 2,
        Skipped(amount, "number", "boolean"): 0,
    }
    assert skipped_values(parsed("a:5 or a:* or b:>5"), chunk, everything) == {}
    assert notes(skipped_values(parsed("a:>4 a:~x"), chunk, everything)) == [
        Note("a", "number", {"boolean": 2, "text": 3}),
        Note("a", "text", {"boolean": 2, "number": 2}),
    ]
    assert notes(skipped_values(parsed("a:>4"), chunk, everything & False)) == []


def test_notes_name_properties_as_filters_do() -> None:
    chunk = chunk_of([event('{"a.b": "x", "c": {"d": "x"}}')])
    where = parsed('"a.b":>5 c.d:>5')
    assert [
        note.property for note in notes(skipped_values(where, chunk, np.ones(1, np.bool_)))
    ] == [
        '"a.b"',
        "c.d",
    ]


@pytest.mark.parametrize("where", ["a:5", "a:*", "a:^x", "-a:>5", "b:*"])
def test_parts_of_chunks(where: str) -> None:
    chunk = value_chunk("", "5", "", '["x", 5, 9]', '"xy"', "", "6", '"x"')
    whole = matching(where, chunk)
    for start, stop in combinations(range(9), 2):
        assert matching(where, chunk, start, stop) == whole[start:stop]
    assert matching(where, chunk, 3, 3) == []


@settings(max_examples=examples(900))
@given(cases())
def test_any_filter_matches_what_the_oracle_says(case: Case) -> None:
    expected = [where_oracle.matches(case.where, event) for event in case.events]
    where = parsed(case.where)
    chunk = chunk_of(case.events)
    assert matching(where, chunk) == expected
    assert matching(negation(where), chunk) == [not hit for hit in expected]


@settings(max_examples=examples(240))
@given(cases(), st.integers(1, 7), st.tuples(st.integers(0, 10), st.integers(0, 10)))
def test_parts_and_smaller_chunks(case: Case, size: int, edges: tuple[int, int]) -> None:
    events, where = case.events, parsed(case.where)
    chunk = chunk_of(events)
    whole = matching(where, chunk)
    start, stop = (min(edge, len(events)) for edge in sorted(edges))
    assert matching(where, chunk, start, stop) == whole[start:stop]
    pieces = [events[start : start + size] for start in range(0, len(events), size)]
    assert [hit for piece in pieces for hit in matching(where, chunk_of(piece))] == whole


@settings(max_examples=examples(240))
@given(cases(), st.integers(0, 10), st.integers(0, 10))
def test_skipped_values_are_those_of_the_oracle(case: Case, start: int, left_out: int) -> None:
    start = min(start, len(case.events))
    among = np.arange(start, len(case.events)) != left_out
    selected = [event for row, event in enumerate(case.events) if row >= start and row != left_out]
    counts = skipped_values(parsed(case.where), chunk_of(case.events), among, start)
    assert {
        (each.name.path, each.used, each.kind): count for each, count in counts.items() if count
    } == where_oracle.skipped(case.where, selected)
