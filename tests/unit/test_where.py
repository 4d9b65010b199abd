"""The text form of filters: what each means, its canonical form, and what is refused."""

from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.filters import (
    All,
    Any,
    AnyOf,
    Between,
    Compare,
    Condition,
    Exists,
    Filter,
    Name,
    Not,
    Value,
    conjunction,
    disjunction,
    negation,
)
from common.where import FilterError, parse_where


def prop(*path: str) -> Name:
    return Name(path)


def is_any(name: Name, *values: Value) -> Condition:
    return Condition(name, AnyOf("", values))


PRO = is_any(prop("plan"), "pro")
US = is_any(prop("country"), "US")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plan:pro", PRO),
        ("plan:pro,team", is_any(prop("plan"), "pro", "team")),
        ("-plan:pro", Not(PRO)),
        ("not plan:pro", Not(PRO)),
        ("NOT  not plan:pro", PRO),
        ("plan:pro country:US", All((US, PRO))),
        ("plan:pro and country:US", All((US, PRO))),
        ("plan:pro or country:US", Any((US, PRO))),
        ("a:* or plan:pro country:US", Any((Condition(prop("a"), Exists()), All((US, PRO))))),
        ("amount:>=100", Condition(prop("amount"), Compare(">=", Decimal(100)))),
        ("amount:<-1.5e3", Condition(prop("amount"), Compare("<", Decimal(-1500)))),
        ("amount:10..20", Condition(prop("amount"), Between(Decimal(10), Decimal(20)))),
        ("zip:10115", is_any(prop("zip"), Decimal(10115), "10115")),
        ('zip:"10115"', is_any(prop("zip"), "10115")),
        ("zip:010115", is_any(prop("zip"), "010115")),
        ("test:true", is_any(prop("test"), True, "true")),
        ("test:True", is_any(prop("test"), "True")),
        ("cart.total:*", Condition(prop("cart", "total"), Exists())),
        ('"cart.total":*', Condition(prop("cart.total"), Exists())),
        ("url:^/blog/", Condition(prop("url"), AnyOf("^", ("/blog/",)))),
        ('title:~"two words",x', Condition(prop("title"), AnyOf("~", ("two words", "x")))),
        ("n:^5", Condition(prop("n"), AnyOf("^", ("5",)))),
        ("at:2025-01-01T00:00:00Z", is_any(prop("at"), "2025-01-01T00:00:00Z")),
        ("or:1", is_any(prop("or"), Decimal(1), "1")),
        ('"":""', is_any(prop(""), "")),
        (r'"a\"b\\":x', is_any(prop('a"b\\'), "x")),
        ("@event:view", is_any(Name(field="event"), "view")),
        ("@user:*", Condition(Name(field="user"), Exists())),
        ('"@user":*', Condition(prop("@user"), Exists())),
    ],
)
def test_texts_mean(text: str, expected: Filter) -> None:
    assert parse_where([text]) == expected


def test_several_texts_must_all_hold() -> None:
    assert parse_where(["plan:pro", "country:US or a:*"]) == All(
        (Any((Condition(prop("a"), Exists()), US)), PRO)
    )
    assert parse_where([]) is None


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("b:1 a:1", "a:1 b:1"),
        ("a:x a:x", "a:x"),
        ("a:x,y,x", "a:x,y"),
        ("(a:x (b:y (c:z)))", "a:x b:y c:z"),
        ("(a:x or (b:y or c:z))", "a:x or b:y or c:z"),
        ("-(a:x b:y)", "-(a:x b:y)"),
        ("c:1 (b:1 or a:1)", "(a:1 or b:1) c:1"),
        ("n:>1.50", "n:>1.5"),
        ("n:>1e2", "n:>100"),
        ("n:-0..1e30", "n:0..1e30"),
        ('n:5,"5"', "n:5"),
        ('n:"5"', 'n:"5"'),
        ('"or":1', '"or":1'),
        ('"a b":"c d"', '"a b":"c d"'),
        ('v:">5",".."', 'v:"..",">5"'),
    ],
)
def test_the_canonical_form(text: str, canonical: str) -> None:
    assert str(parse_where([text])) == canonical


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at 1: a condition is missing"),
        ("plan", "at 1: a condition is written name:value"),
        ("plan:", "at 6: a value is missing; name:* tests for any value"),
        ("plan:pro,", "at 10: a value is missing after the comma"),
        ("amount:>=ten", "at 10: >= needs a number, as in amount:>=10"),
        ("amount:>", "at 9: > needs a number, as in amount:>10"),
        ("amount:50..10", "at 8: the lower end comes first"),
        ("(plan:pro", "at 1: the parenthesis is not closed"),
        ("plan:pro)", "at 9: unmatched parenthesis"),
        ('plan:"pro', "at 6: the quote is not closed"),
        ("a:10..", "at 3: a range without an upper end is written >=10"),
        ("a:..10", "at 3: a range without a lower end is written <=10"),
        ("a:77..", "at 3: a range without an upper end is written >=10"),
        (
            "a:1..x",
            "at 3: a range has two numbers, as in 10..20; quote a text that contains two dots",
        ),
        ("a:1..2,3", "at 3: a range stands alone"),
        ("a:b*", "at 3: * tests for any value and stands alone; quote the text"),
        ("a:^x,^y", "at 6: ^ may occur once, before the first value"),
        ('a:~""', "at 4: ~ needs a text that is not empty"),
        ("a:=5", "at 3: a value follows the colon directly: name:value, -name:value"),
        ("a:!5", "at 3: a value follows the colon directly: name:value, -name:value"),
        ("--a:1", "at 2: - may occur once, before a condition or a parenthesis"),
        ("- a:1", "at 2: - may occur once, before a condition or a parenthesis"),
        ("a:1(b:2)", "at 4: a space is missing after a condition"),
        ("(a:1)b:2", "at 6: a space is missing after a parenthesis"),
        ('a"b":1', "at 2: a quote must not touch what is before it"),
        ('a:"x"y', "at 6: a space is missing after the quote"),
        (r'a:"\n"', 'at 5: in quotes, only \\" and \\\\ are escapes'),
        (
            "@name:x",
            "at 1: the fields of an event are @event and @user; quote the name of a property",
        ),
        ("a:1 or", "at 7: a condition is missing"),
        ("b:1 a.\0:1", "at 5: a name must not contain a NUL character"),
        ("a:\0", "at 3: a value must not contain a NUL character"),
        ("a:1e131072", "at 3: the number has too many digits"),
        ("a:>1e-16384", "at 4: the number has too many digits"),
        ("((((((a:1))))))", "at 6: at most 5 levels of parentheses are allowed"),
        (" ".join(["a:1"] * 51), "at 201: at most 50 conditions are allowed"),
        ("a:" + ",".join("x" * 101), "at 203: at most 100 values are allowed"),
    ],
)
def test_what_is_refused_and_where(text: str, message: str) -> None:
    with pytest.raises(FilterError) as error_info:
        parse_where([text])
    assert str(error_info.value) == message


def test_limits_are_those_of_all_texts_together() -> None:
    parse_where(["a:" + "x" * 1_998])
    with pytest.raises(FilterError, match="at most 2,000 bytes"):
        parse_where(["a:" + "x" * 1_000, "b:" + "x" * 1_000])
    with pytest.raises(FilterError, match="at most 50 conditions"):
        parse_where(["a:1"] * 51)


texts = st.text(st.sampled_from('ab5.,()"\\:-@*^~<>=! eör'), max_size=6)
names = st.builds(Name, st.lists(texts, min_size=1, max_size=3).map(tuple)) | st.sampled_from(
    [Name(field="event"), Name(field="user")]
)
numbers = st.decimals(allow_nan=False, allow_infinity=False, places=2).map(
    lambda number: Decimal(str(number))
)
conditions = st.builds(
    Condition,
    names,
    st.one_of(
        st.just(Exists()),
        st.builds(Compare, st.sampled_from([">", ">=", "<", "<="]), numbers),
        st.tuples(numbers, numbers).map(lambda pair: Between(*sorted(pair))),
        st.builds(
            lambda kind, values: AnyOf(kind, tuple(sorted(set(values)))),
            st.sampled_from(["^", "~"]),
            st.lists(texts.filter(bool), min_size=1, max_size=3),
        ),
        st.lists(texts, min_size=1, max_size=3).map(
            lambda values: AnyOf("", tuple(sorted(set(values))))
        ),
    ),
)
filters = st.recursive(
    conditions,
    lambda parts: st.one_of(
        parts.map(negation),
        st.lists(parts, min_size=1, max_size=3).map(conjunction),
        st.lists(parts, min_size=1, max_size=3).map(disjunction),
    ),
    max_leaves=6,
)


def parsed(text: str) -> Filter | FilterError | None:
    try:
        return parse_where([text])
    except FilterError as error:
        return error


@given(filters)
def test_the_text_of_a_filter_means_the_filter(built: Filter) -> None:
    result = parsed(str(built))
    if isinstance(result, FilterError):
        assert "at most" in str(result)
    else:
        assert result == built


@given(st.text(st.sampled_from('ab1.,()"\\:-@*^~<>=! orandnt\0é'), max_size=30))
@example("a:1 and or b:2")
@example("a:and or:b")
def test_any_text_is_a_filter_or_is_refused_at_a_place_in_it(text: str) -> None:
    result = parsed(text)
    if isinstance(result, FilterError):
        assert 1 <= result.position <= len(text) + 1
    else:
        assert parsed(str(result)) == result
