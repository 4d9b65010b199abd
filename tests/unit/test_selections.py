"""The text form of selections: what each means, its canonical form, and what is refused."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from common.filters import AnyOf, Condition, Filter, Name, conjunction
from common.parameters import Selections, SelectionText, UserConditions
from common.selections import (
    Selection,
    Times,
    UserCondition,
    parse_selection,
    parse_selections,
    parse_user_conditions,
)
from common.where import FilterError, parse_where
from tests.unit.test_where import filters, texts


def where(text: str) -> Filter:
    parsed = parse_where([text])
    assert parsed
    return parsed


PRO = where("plan:pro")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("purchase", Selection(("purchase",))),
        ("  purchase  ", Selection(("purchase",))),
        ("purchase plan:pro", Selection(("purchase",), PRO)),
        ("purchase  plan:pro country:US", Selection(("purchase",), where("plan:pro country:US"))),
        ('"Add to cart"', Selection(("Add to cart",))),
        ('"Add to cart",view plan:pro', Selection(("Add to cart", "view"), PRO)),
        ('"purchase plan:pro"', Selection(("purchase plan:pro",))),
        (r'"a\"b\\"', Selection(('a"b\\',))),
        ("view,click,view", Selection(("click", "view"))),
        ("*", Selection()),
        ("* plan:pro", Selection((), PRO)),
        ("app:open", Selection(("app:open",))),
        ("v1.2", Selection(("v1.2",))),
        ("plan:pro", Selection(("plan:pro",))),
        ("plan:pro plan:pro", Selection(("plan:pro",), PRO)),
        ("or or:1", Selection(("or",), where("or:1"))),
        ("view url:^/a or url:^/b", Selection(("view",), where("url:^/a or url:^/b"))),
        ("view -plan:pro", Selection(("view",), where("-plan:pro"))),
        ("view (plan:pro)", Selection(("view",), PRO)),
        ('view "@times":3', Selection(("view",), where('"@times":3'))),
        ("view @user:*", Selection(("view",), where("@user:*"))),
        ("é\t€", Selection(("é\t€",))),
    ],
)
def test_texts_mean(text: str, expected: Selection) -> None:
    assert parse_selection(text) == expected
    assert parse_user_conditions([text]) == (UserCondition(expected),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("purchase", {}),
        ("purchase @times:1..", {}),
        ("purchase @times:3", {"times": Times(3, 3)}),
        ("purchase @times:0", {"times": Times(0, 0)}),
        ("purchase @times:3..", {"times": Times(3)}),
        ("purchase @times:..2", {"times": Times(0, 2)}),
        ("purchase @times:2..5", {"times": Times(2, 5)}),
        ("purchase @last:30d", {"last": "30d"}),
        ("purchase @last:24h @times:2", {"last": "24h", "times": Times(2, 2)}),
        ("purchase @start:2025-01-31", {"start": date(2025, 1, 31)}),
        (
            "purchase @end:2025-01-31T09:00:00+01:00 @start:2025-01-01T00:00:00z",
            {
                "start": datetime(2025, 1, 1, tzinfo=UTC),
                "end": datetime(2025, 1, 31, 8, tzinfo=UTC),
            },
        ),
    ],
)
def test_options_of_conditions_on_users(text: str, expected: dict[str, Any]) -> None:
    assert parse_user_conditions([text]) == (UserCondition(Selection(("purchase",)), **expected),)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ('"view" , ', None),
        ('"view"', "view"),
        ("view,click b:1 a:1", "click,view a:1 b:1"),
        ('"-x","@x"', '"-x","@x"'),
        ('"a b","c,d","e(f","g*"', '"a b","c,d","e(f","g*"'),
        ("*  plan:pro", "* plan:pro"),
        ("view a:1 or b:1", "view a:1 or b:1"),
        ("view @last:1d @times:..2", "view @times:..2 @last:1d"),
        ("view @times:0..", "view @times:0.."),
        ("view @times:2..2", "view @times:2"),
        ("view @times:1..", "view"),
        (
            "view @end:2025-02-01T01:00:00.5+01:00 @start:2025-01-01",
            "view @start:2025-01-01 @end:2025-02-01T00:00:00.500000Z",
        ),
    ],
)
def test_the_canonical_form(text: str, canonical: str | None) -> None:
    parsed = condition(text)
    assert canonical == (None if isinstance(parsed, FilterError) else str(parsed))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", None),
        ("* plan:pro", PRO),
        ("view", where('@event:"view"')),
        ("5", where('@event:"5"')),
        ("view,click", where("@event:click,view")),
        ("view plan:pro", where("@event:view plan:pro")),
        ("view a:1 or b:1", where("@event:view (a:1 or b:1)")),
        ("view a:1 b:1", where("@event:view a:1 b:1")),
    ],
)
def test_a_selection_is_one_filter(text: str, expected: Filter | None) -> None:
    assert parse_selection(text).filter == expected


SYNTAX = "a condition is written name:value; quote an event name that has a space"
QUOTE = (
    "quote an event name that begins with - or @, or has a space, comma, quote, parenthesis or *"
)
FIELDS = (
    "the fields of an event are @event and @user; the options @times, @last, @start and @end come "
    "last; quote the name of a property"
)
TIMES = "@times must be a number of events, as in 3, 3.. (at least) or ..3 (at most)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at 1: an event name is missing"),
        ("  ", "at 3: an event name is missing"),
        ("view,", "at 6: an event name is missing after the comma"),
        ("view, click", "at 6: an event name is missing after the comma"),
        ("Add to cart", f"at 5: {SYNTAX}"),
        ("view and a:1", f"at 6: {SYNTAX}"),
        ('view "two words"', f"at 6: {SYNTAX}"),
        ("view a:1 cart", f"at 10: {SYNTAX}"),
        ("*,view", "at 2: * means any event and stands alone"),
        ("*x", "at 2: * means any event and stands alone"),
        ("view,*", f"at 6: {QUOTE}"),
        ("view*", f"at 5: {QUOTE}"),
        ("-view", f"at 1: {QUOTE}"),
        ("@event:view", f"at 1: {QUOTE}"),
        ("(view)", f"at 1: {QUOTE}"),
        ("view(a:1)", f"at 5: {QUOTE}"),
        ('"view":x', "at 7: a space is missing after the quote"),
        ('"view"x', "at 7: a space is missing after the quote"),
        ('"view', "at 1: the quote is not closed"),
        ('vi"ew"', "at 3: a quote must not touch what is before it"),
        ('""', "at 1: an event name has 1 to 200 bytes"),
        ("é" * 101, "at 1: an event name has 1 to 200 bytes"),
        ("view\0", "at 1: an event name must not contain a NUL character"),
        ("view a:", "at 8: a value is missing; name:* tests for any value"),
        ("view a:1 or", "at 12: a condition is missing"),
        ("view )", "at 6: a condition is missing"),
        ("view a:1)", "at 9: unmatched parenthesis"),
        ("view (a:1", "at 6: the parenthesis is not closed"),
        (",".join("x" * 101), "at 201: at most 100 values are allowed"),
        ("v " + " ".join(["a:1"] * 51), "at 203: at most 50 conditions are allowed"),
        ("x" * 2_001, "at 1: all conditions together must be at most 2,000 bytes long"),
    ],
)
def test_what_is_refused_and_where(text: str, message: str) -> None:
    with pytest.raises(FilterError) as error_info:
        parse_selection(text)
    assert str(error_info.value) == message
    with pytest.raises(FilterError) as error_info:
        parse_user_conditions([text])
    assert str(error_info.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p @times:", f"at 10: {TIMES}"),
        ("p @times:..", f"at 10: {TIMES}"),
        ("p @times:-1", f"at 10: {TIMES}"),
        ("p @times:3..2", "at 10: @times has the lower end first"),
        ("p @times:1 @times:2", "at 12: @times may occur once"),
        ("p @times:3,4", "at 11: a space is missing after an option"),
        ("p @times:3 a:1", "at 12: options come last"),
        ("p @times:3)", "at 11: unmatched parenthesis"),
        ("p (a:1 @times:3)", f"at 8: {FIELDS}"),
        ("p a:1 or @times:3", f"at 10: {FIELDS}"),
        ("p -@times:3", f"at 4: {FIELDS}"),
        ("p @times", f"at 3: {FIELDS}"),
        ("p @time:3", f"at 3: {FIELDS}"),
        (
            "p @last:3",
            "at 9: @last must be 1 to 9999 followed by h, d, w, mo, q or y, such as 24h, 30d, 12w, "
            "6mo, 2q, 1y",
        ),
        ("p @last:3d @end:2025-01-01", "at 12: @last is not combined with @start or @end"),
        ("p @start:2025-01-01 @last:3d", "at 21: @last is not combined with @start or @end"),
        ("p @start:1999-01-01", "at 10: @start must be within the years 2000 to 2099"),
        ("@times:3", f"at 1: {QUOTE}"),
    ],
)
def test_options_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(FilterError) as error_info:
        parse_user_conditions([text])
    assert str(error_info.value) == message


def test_selections_have_no_options() -> None:
    with pytest.raises(FilterError, match="at 3: the fields of an event are @event and @user;"):
        parse_selection("p @times:3")


def test_limits_are_those_of_all_texts_of_a_parameter_together() -> None:
    assert len(parse_selections(["x" * 150] * 13)) == 13
    with pytest.raises(FilterError, match="at most 2,000 bytes"):
        parse_selections(["x" * 150] * 14)
    with pytest.raises(FilterError, match="at most 100 values"):
        parse_selections(["x"] * 101)
    with pytest.raises(FilterError, match="at most 50 conditions"):
        parse_user_conditions(["x " + " ".join(["a:1"] * 26)] * 2)
    with pytest.raises(FilterError, match="may be given at most 10 times"):
        parse_user_conditions(["x"] * 11)


def test_parameters_keep_the_order_of_selections_and_sort_conditions_on_users() -> None:
    steps, did = TypeAdapter[Any](Selections), TypeAdapter[Any](UserConditions)
    assert steps.dump_python(steps.validate_python(["b", "a x:1", "b"])) == ["b", "a x:1", "b"]
    assert did.dump_python(did.validate_python(["b @times:1..", "a", "b"])) == ["a", "b"]
    one = TypeAdapter[Any](SelectionText)
    assert one.dump_python(one.validate_python('"b" a:"x"')) == "b a:x"


names = st.lists(texts.filter(bool), max_size=3).map(lambda each: tuple(sorted(set(each))))
selections = st.builds(Selection, names, st.none() | filters)
counts = st.integers(0, 5)
times = st.builds(Times, counts, st.none()) | st.tuples(counts, counts).map(
    lambda pair: Times(*sorted(pair))
)
edges = st.none() | st.dates(date(2000, 1, 1), date(2100, 1, 1))
edges |= st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
user_conditions = st.builds(UserCondition, selections, times, st.sampled_from([None, "24h", "3mo"]))
user_conditions |= st.builds(UserCondition, selections, times, start=edges, end=edges)


def condition(text: str) -> UserCondition | FilterError:
    try:
        (parsed,) = parse_user_conditions([text])
    except FilterError as error:
        return error
    return parsed


@given(user_conditions)
def test_the_text_of_a_condition_means_the_condition(built: UserCondition) -> None:
    result = condition(str(built))
    if isinstance(result, FilterError):
        assert "at most" in str(result)
    else:
        assert result == built
        assert parse_selection(str(built.selection)) == built.selection


@given(selections)
def test_the_filter_of_a_selection_has_a_condition_on_its_names(built: Selection) -> None:
    name = Condition(Name(field="event"), AnyOf("", built.names))
    parts = [*([name] if built.names else []), *([built.where] if built.where else [])]
    assert built.filter == (conjunction(parts) if parts else None)
    if built.filter and not isinstance(parsed := condition(f"* {built.filter}"), FilterError):
        assert parsed.selection.filter == built.filter


@given(st.text(st.sampled_from('ab1.,()"\\:-@*^~<>=! orandtimeslh\0é'), max_size=30))
@example("a b:1 @last:1h @times:..1")
@example("a @times:1 or b:2")
@example("@event:a")
def test_any_text_is_a_selection_or_is_refused_at_a_place_in_it(text: str) -> None:
    result = condition(text)
    if isinstance(result, FilterError):
        assert 1 <= result.position <= len(text) + 1
    else:
        assert condition(str(result)) == result
