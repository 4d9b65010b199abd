"""Cells of answers: what a text means, and which cells an answer has."""

import pytest
from pydantic import ValidationError

from common.cells import TOTAL, Cell, CellFields, parse_cell
from common.filters import Filter, Name
from common.questions.active_users import ActiveUsers
from common.questions.base import ListsUsers
from common.questions.breakdown import Breakdown
from common.questions.event_counts import EventCounts
from common.questions.numbers import Numbers
from common.questions.top_events import TopEvents
from common.where import FilterError, parse_where

ALL = CellFields(fields=("start", "step"), counts=("open", "dropped"), rows=("other", "missing"))


def condition(text: str) -> Filter:
    where = parse_where([text])
    assert where
    return where


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("step:2", Cell(fields={"step": "2"})),
        ("step:2 @count:open", Cell(fields={"step": "2"}, count="open")),
        ("@count:open and step:2", Cell(fields={"step": "2"}, count="open")),
        ("start:2025-01-06T00:00:00+01:00", Cell(fields={"start": "2025-01-06T00:00:00+01:00"})),
        ("@row:other  start:2025-01-06", Cell(fields={"start": "2025-01-06"}, row="other")),
        ("plan:pro", Cell(where=condition("plan:pro"))),
        ("plan:pro country:US", Cell(where=condition("plan:pro country:US"))),
        ("plan:pro step:1", Cell(fields={"step": "1"}, where=condition("plan:pro"))),
        ("-plan:* step:1", Cell(fields={"step": "1"}, where=condition("-plan:*"))),
        ("(plan:pro or plan:5) step:1",
         Cell(fields={"step": "1"}, where=condition("plan:pro or plan:5"))),
        ('"step":2', Cell(where=condition("step:2"))),
        ("step.of:2", Cell(where=condition("step.of:2"))),
        ("@event:view", Cell(where=condition("@event:view"))),
        ('step:"a, \\"b\\""', Cell(fields={"step": 'a, "b"'})),
        ('step:">5"', Cell(fields={"step": ">5"})),
    ],
)  # fmt: skip
def test_a_cell_has_fields_and_conditions(text: str, expected: Cell) -> None:
    cell = parse_cell(text, ALL)
    assert (cell.fields, cell.count, cell.row, cell.where) == (
        expected.fields,
        expected.count,
        expected.row,
        expected.where,
    )
    assert str(cell) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at 1: a condition is missing"),
        ("step", "at 1: a condition is written name:value"),
        ("step:", "at 6: a value is missing; name:* tests for any value"),
        ("step:1 step:2", "at 8: step may occur once"),
        ("@row:other @row:missing", "at 12: @row may occur once"),
        ("step:1,2", "at 6: step must have one value; quote a comma or an operator"),
        ("step:>1", "at 6: step must have one value; quote a comma or an operator"),
        ("@count:all", "at 8: @count must be open or dropped"),
        ("@row:first", "at 6: @row must be other or missing"),
        ("-step:1", "at 2: step must not be in parentheses or after -"),
        ("(step:1 or step:2)", "at 2: step must not be in parentheses or after -"),
        ("step:1 or step:2", "at 8: conditions with or must be in parentheses"),
        ("step:1)", "at 7: unmatched parenthesis"),
        ('step:"1"x', "at 9: a space is missing after the quote"),
        ("step:a\0", "at 6: a value must not contain a NUL character"),
        (
            "@node:view",
            "at 1: this answer has start, step, @count:open, @count:dropped, @row:other, "
            "@row:missing; quote the name of a property",
        ),
        ("x" * 2_001, "at 1: all conditions together must be at most 2,000 bytes long"),
    ],
)
def test_a_text_that_is_no_cell(text: str, message: str) -> None:
    with pytest.raises(FilterError) as error:
        parse_cell(text, ALL)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("start:1", CellFields(), "must not have start; start needs `interval`; this answer has "
         "no cells"),
        ("step:1 start:1", CellFields(fields=("start",)), "must not have step; this answer has "
         "start"),
        ("step:1", CellFields(fields=("start", "step"), required=("start", "step")),
         "must have start; this answer has start, step"),
        ("@count:open", CellFields(counts=("dropped",)),
         "must have another @count; this answer has @count:dropped"),
        ("@row:other", CellFields(rows=("missing",)),
         "must have one row; this answer has @row:missing"),
        ("@row:other plan:pro", CellFields(rows=("other",), properties=(Name(("plan",)),)),
         "must have one row; this answer has @row:other, a condition on plan"),
        ("plan:pro", CellFields(), "must not have a condition on plan; this answer has no cells"),
        ("plan:pro", CellFields(properties=(Name(("plan",)), Name(("country",)))),
         "must have a condition on each property of `by`; this answer has a condition on plan and "
         "one on country"),
    ],
)  # fmt: skip
def test_an_answer_has_not_every_cell(text: str, fields: CellFields, message: str) -> None:
    assert parse_cell(text, ALL).fault(fields) == message


def test_the_total_is_a_cell_where_no_field_is_required() -> None:
    assert TOTAL.fault(ALL) is None
    assert TOTAL.subject == "the total"
    assert parse_cell("step:1", ALL).subject == "`cell=step:1`"


@pytest.mark.parametrize(
    "question",
    [
        EventCounts(list="users"),
        EventCounts(list="users", interval="day", cell="start:2025-01-06"),
        TopEvents(list="users", cell="event_name:purchase"),
        TopEvents(list="users", cell="@row:other"),
        ActiveUsers(list="users", cell="date:2025-01-06 @count:wau"),
        ActiveUsers(list="users", window=5, cell="date:2025-01-06 @count:active"),
        Breakdown(list="users", by="start", interval="day", cell='"start":x start:2025-01-06'),
        Breakdown(list="users", by=["plan", "@event"], cell="-plan:* @event:view"),
        Numbers(list="users", of="amount"),
        Numbers(list="users", of="amount", by="plan", cell="@row:missing"),
    ],
)
def test_cells_of_questions(question: ListsUsers) -> None:
    assert question.query.cell == question.cell or (question.cell, question.query.cell) == (
        None,
        TOTAL,
    )
    assert question.query.months is None
    assert question.cache_name == f"{question.name}:filtered"


@pytest.mark.parametrize(
    ("question", "parameters", "parameter", "message"),
    [
        (EventCounts, {"cell": "start:2025-01-06"}, "cell", "needs `list=users`"),
        (EventCounts, {"cursor": "x"}, "cursor", "needs `list=users`"),
        (EventCounts, {"page_size": 5}, "page_size", "needs `list=users`"),
        (EventCounts, {"list": "users", "cell": "start:2025-01-06"}, "cell",
         "must not have start; start needs `interval`; this answer has no cells"),
        (TopEvents, {"list": "users", "cell": "plan:pro"}, "cell",
         "must not have a condition on plan; this answer has event_name, @row:other"),
        (TopEvents, {"list": "users", "cell": "event_name:a @row:other"}, "cell",
         "must have one row; this answer has event_name, @row:other"),
        (ActiveUsers, {"list": "users"}, "cell",
         "must have date and @count; this answer has date, @count:dau, @count:wau, @count:mau, "
         "@count:calendar_week, @count:calendar_month, @count:new, @count:existing"),
        (ActiveUsers, {"list": "users", "cell": "date:2025-01-06 @count:active"}, "cell",
         "must have another @count; this answer has date, @count:dau, @count:wau, @count:mau, "
         "@count:calendar_week, @count:calendar_month, @count:new, @count:existing"),
        (Breakdown, {"list": "users", "by": "plan", "cell": "country:US"}, "cell",
         "must not have a condition on country; this answer has @row:other, @row:missing, a "
         "condition on plan"),
        (Numbers, {"list": "users", "of": "amount", "cell": "@row:other"}, "cell",
         "must not have @row; this answer has no cells"),
    ],
)  # fmt: skip
def test_what_is_refused_before_anything_is_read(
    question: type[ListsUsers], parameters: dict[str, str], parameter: str, message: str
) -> None:
    with pytest.raises(ValidationError) as error:
        question.model_validate(parameters)
    (fault,) = error.value.errors()
    assert fault["type"].endswith(parameter)
    assert fault["msg"] == message


def test_pages_of_a_list_share_an_identity() -> None:
    parameters = {"list": "users", "start": "2025-01-01", "end": "2025-02-01"}
    page = EventCounts(**parameters).query.page
    smaller = EventCounts(**parameters, page_size=3, format="csv").query.page
    other = EventCounts(**parameters, interval="day", cell="start:2025-01-06").query.page
    assert page
    assert smaller
    assert other
    assert (page.size, smaller.size) == (50, 3)
    assert page.identity == smaller.identity != other.identity


def test_a_field_and_a_property_of_its_name_are_two_cells() -> None:
    shared = {"list": "users", "by": "start", "interval": "day", "start": "2025-01-01"}
    field = Breakdown(**shared, cell='start:2025-01-06 "start":x')
    value = Breakdown(**shared, cell='start:x "start":2025-01-06')
    assert field.fingerprint() != value.fingerprint()
