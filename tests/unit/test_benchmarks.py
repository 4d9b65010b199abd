"""What the benchmark asks about is the same every day, and cut where the service cuts it."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from bench.cases import Case, address, cases, query_texts
from bench.event_set import DAYS, END, PATHS, START, days_of_events, sample
from bench.figures import Figures
from bench.report import Report, Row
from bench.set_state import (
    describe_copy,
    describe_set,
    forget_copy,
    has_folded_copy,
    has_set,
)
from bench.tables import replaced
from bench.wide.answers import from_rows, from_service
from bench.wide.cases import Condition, WideCase, wide_cases, wide_query_texts
from bench.wide.questions import LABELS, QUESTIONS

CONDITION = Condition("plan:pro country:US", "plan = 'pro'", "properties->>'plan' = 'pro'")


def case_of(name: str) -> Case:
    return next(case for case in cases() if case.name == name)


def test_the_same_number_gives_the_same_events() -> None:
    first, second = sample(20_000, seed=1), sample(20_000, seed=1)
    assert first.equals(second)
    assert first.num_rows == 20_000


def test_events_have_an_id_of_their_own_and_stand_in_the_order_of_time() -> None:
    events = sample(20_000, seed=1)
    moments = events["occurred_at"].to_pylist()
    assert pc.count_distinct(events["event_id"]).as_py() == 20_000
    assert moments == sorted(moments)
    assert START <= moments[0] < moments[-1] < END


def test_properties_are_json_with_a_path_and_sometimes_an_amount() -> None:
    texts = sample(20_000, seed=1)["properties"].to_pylist()
    properties = [json.loads(text, parse_float=str) for text in texts]
    amounts = [each["amount"] for each in properties if "amount" in each]
    assert {tuple(each) for each in properties} == {
        ("country", "platform", "plan", "path"),
        ("country", "platform", "plan", "path", "amount"),
    }
    assert {each["path"] for each in properties} <= set(PATHS)
    assert 1_900 < len(amounts) < 2_100
    assert all(re.fullmatch(r"\d{1,3}\.\d\d", amount) for amount in amounts)


def test_each_day_has_its_events() -> None:
    for day, events in enumerate(days_of_events(20_000)):
        start = START + timedelta(days=day)
        bounds = pc.min_max(events["occurred_at"]).as_py()
        assert start <= bounds["min"] <= bounds["max"] < start + timedelta(days=1)
    assert day == DAYS - 1


def test_a_day_of_berlin_has_25_hours() -> None:
    starts = case_of("Europe/Berlin").starts_of(case_of("Europe/Berlin").days)
    hours = {end - start for start, end in pairwise(starts)}
    assert hours == {timedelta(hours=24), timedelta(hours=25)}
    spelled = query_texts("duckdb")("events_per_day", case_of("Europe/Berlin"))
    assert spelled is not None
    assert (
        "case when occurred_at < '2026-10-25 01:00:00' then 7200000000 else 3600000000" in spelled
    )


def test_days_and_those_reached_back_to_fit_into_a_number() -> None:
    for case in cases():
        assert len(case.reached) <= 63


def test_an_unaligned_range_is_asked_as_it_is() -> None:
    case = case_of("UTC, unaligned")
    assert case.edges[0] == datetime(2026, 10, 23, 0, 7, 13, tzinfo=UTC)
    assert "start=2026-10-23T00:07:13Z" in address("top_events", case)


def test_each_query_with_a_filter_has_another_range_and_filter_than_the_last() -> None:
    for question in QUESTIONS:
        listed = list(islice(wide_cases(question), 200))
        has_filters = bool(listed[0].condition.where)
        assert len(set(listed)) == (200 if has_filters else DAYS - 30 + 1)
        for first, second in pairwise(listed):
            assert first.start != second.start
            assert first.condition != second.condition or not has_filters
            assert second.end - second.start == timedelta(days=30)


def test_a_breakdown_is_spelled_for_each_system() -> None:
    case = WideCase("by_pair", date(2026, 9, 1), date(2026, 10, 1), CONDITION)
    assert case.address == ("/analytics/breakdown?start=2026-09-01&end=2026-10-01&by=plan&by=path")
    assert "group by plan, path" in wide_query_texts("wide_postgresql")(case)
    assert "properties->>'path' as path" in wide_query_texts("wide_postgresql")(case)
    assert "anti   join top using (plan, path)" in wide_query_texts("wide_duckdb")(case)
    assert "if((plan, path) in top" in wide_query_texts("wide_chdb")(case)


def test_a_query_with_a_filter_is_spelled_for_each_system() -> None:
    case = WideCase("filtered_per_day", date(2026, 9, 1), date(2026, 10, 1), CONDITION)
    assert case.address == (
        "/analytics/event-counts?start=2026-09-01&end=2026-10-01"
        "&interval=day&where=plan:pro+country:US"
    )
    ends = "occurred_at >= '2026-09-01 00:00:00' and occurred_at < '2026-10-01 00:00:00'"
    assert f"{ends} and plan = 'pro'" in wide_query_texts("wide_duckdb")(case)
    assert "2026-10-01 00:00:00Z' and properties->>'plan' = 'pro'" in wide_query_texts(
        "wide_postgresql"
    )(case)


def test_a_funnel_is_spelled_for_each_system() -> None:
    case = WideCase("funnel_rare", date(2026, 9, 1), date(2026, 10, 1), CONDITION)
    assert case.address == (
        "/analytics/funnel?start=2026-09-01&end=2026-10-01"
        "&step=add_to_cart&step=checkout_started&step=purchase&within=7d"
    )
    for file, suffix in (("wide_duckdb", ""), ("wide_postgresql", "Z"), ("wide_chdb", "")):
        text = wide_query_texts(file)(case)
        assert f"occurred_at < '2026-10-08 00:00:00{suffix}'" in text
        assert "event_name in ('add_to_cart', 'checkout_started', 'purchase')" in text


def test_users_who_did_one_thing_and_not_another_are_chosen_by_the_service() -> None:
    case = WideCase("did_not", date(2026, 9, 1), date(2026, 10, 1), CONDITION)
    assert case.address == (
        "/analytics/event-counts?start=2026-09-01&end=2026-10-01"
        "&did=product_view+plan:pro+country:US&not_did=purchase"
    )
    for file in ("wide_duckdb", "wide_postgresql"):
        assert "event_name in ('product_view', 'purchase')" in wide_query_texts(file)(case)


def test_returns_are_read_up_to_the_end_of_the_last_cell() -> None:
    days = WideCase("retention_day", date(2026, 9, 1), date(2026, 10, 1), CONDITION)
    weeks = WideCase("retention_week", date(2026, 9, 1), date(2026, 10, 1), CONDITION)
    assert "occurred_at < '2026-10-30 00:00:00'" in wide_query_texts("wide_duckdb")(days)
    # September 30 is in the week that begins on Monday, September 28.
    assert "occurred_at < '2026-11-23 00:00:00'" in wide_query_texts("wide_duckdb")(weeks)


def test_a_cell_is_a_bit_of_the_days_of_a_user() -> None:
    case = WideCase("retention_day", date(2026, 9, 1), date(2026, 10, 1), CONDITION)
    spelled = {file: wide_query_texts(file)(case) for file in ("wide_duckdb", "wide_chdb")}
    assert spelled["wide_duckdb"].count("count(*) filter") == 30
    assert "count(*) filter (((active >> (cohort + 29)) & 1) = 1)" in spelled["wide_duckdb"]
    assert "countIf(bitTest(active, cohort + 29))" in spelled["wide_chdb"]


def test_each_question_is_spelled_for_each_system() -> None:
    for question in QUESTIONS:
        for file in ("wide_duckdb", "wide_postgresql", "wide_chdb"):
            assert "select" in wide_query_texts(file)(next(wide_cases(question)))


def of(question: str) -> WideCase:
    return next(wide_cases(question))


def conversion(users: int, avg: float | None, p50: float | None) -> dict[str, Any]:
    return {"users": users, "seconds": {"avg": avg, "p50": p50, "p90": p50}}


def test_answers_of_all_systems_are_compared_as_whole_numbers() -> None:
    numbers = {"count": 2, "sum": 12.5, "p50": 6.25, "p95": 6.7005}
    assert from_service(of("numbers"), {"series": [numbers], **numbers}) == (
        2 * [2, 1250, 62_500, 67_005]
    )
    rows = [("2026-09-01", "2", "12.5", "6.25", "6.7005"), (None, 0, None, "nan", "\\N")]
    assert from_rows(of("numbers"), rows) == [2, 1250, 62_500, 67_005, 0, 0, 0, 0]
    cohorts = [{"users": 0, "cells": [None]}, {"users": 3, "cells": [{"users": 3}, None]}]
    assert from_service(of("retention_day"), {"cohorts": cohorts}) == [3, 0]


def test_times_of_a_funnel_are_compared_value_by_value() -> None:
    steps = [conversion(3, None, None), conversion(2, 1.25, 1.5), conversion(0, None, None)]
    part = {"steps": steps, "seconds": {"avg": None, "p50": None, "p90": None}}
    first, second = {"value": "pro", **part}, {"value": "free", **part, "steps": steps[:1] * 3}
    whole = [3, 2, 0, 125, 15_000_000, 15_000_000, *[0] * 6]
    answer = from_service(of("funnel_times"), {"rows": [first, second], **part})
    assert answer == [3, 3, 3, *[0] * 9, *whole, *whole]
    rows = [("pro", 3, 2, 0, 1.25, 1.5, 1.5, *[None] * 6)]
    assert from_rows(of("funnel_times"), rows) == whole


def test_a_failed_part_loses_no_figures_of_others(tmp_path: Path) -> None:
    figures = Figures(1_000, tmp_path / "bench.json")
    with figures.part("first"):
        figures.rates["load_per_s"] = 5.4
    with figures.part("second"):
        raise AssertionError("two systems differ\nin many lines")
    added = Figures(1_000, tmp_path / "bench.json")
    added.add_earlier()
    added.wide = [Row("did_not", "duckdb", "warm", ms, "") for ms in (2.0, 1.0)]
    assert figures.failures == ["second: two systems differ"]
    assert added.report.rates["load_per_s"] == 5
    assert [row.ms for row in added.report.wide] == [1.0]


def test_figures_of_another_number_of_events_are_not_added_to(tmp_path: Path) -> None:
    with Figures(1_000, tmp_path / "bench.json").part("first"):
        pass
    with pytest.raises(ValueError, match="has figures of 1,000 events"):
        Figures(2_000, tmp_path / "bench.json").add_earlier()


def test_a_set_that_was_used_up_lasts_as_long_as_its_folded_copy(tmp_path: Path) -> None:
    assert not has_set(tmp_path, 1_000, copy_suffices=True)
    describe_set(tmp_path, 1_000)
    assert has_set(tmp_path, 1_000, copy_suffices=False)
    describe_set(tmp_path, 1_000, used_up=True)
    assert not has_set(tmp_path, 1_000, copy_suffices=True)
    describe_copy(tmp_path, 1_000)
    assert has_set(tmp_path, 1_000, copy_suffices=True)
    assert not has_set(tmp_path, 1_000, copy_suffices=False)
    forget_copy(tmp_path)
    assert not has_set(tmp_path, 1_000, copy_suffices=True)
    with pytest.raises(AssertionError, match="holds 1,000 events"):
        has_set(tmp_path, 2_000, copy_suffices=False)


def test_a_folded_copy_with_another_schema_is_not_used_again(tmp_path: Path) -> None:
    describe_copy(tmp_path, 1_000)
    assert has_folded_copy(tmp_path, 1_000)
    file = tmp_path / "copy.json"
    copy = json.loads(file.read_bytes())
    file.write_text(json.dumps({**copy, "migrations": copy["migrations"][:-1]}))
    assert not has_folded_copy(tmp_path, 1_000)


def test_tables_of_pages_are_replaced_by_those_of_a_report() -> None:
    page = "before\n<!-- table: wide-readme -->\nold\n<!-- end -->\nafter\n"
    names = ("service http uncached", "service in process", "duckdb")
    rows = [
        Row(question, system, state, ms, "")
        for question in ("did_not", "numbers", "stickiness")  # README lacks the last one
        for system, ms in zip(names, (4.321, 3.3, 123.4), strict=True)
        for state in ("warm", "cold")
        if (question, system) != ("numbers", "duckdb")
    ]
    report = Report(1_000, "2 cores", [], rows, {}, {})
    table = f"""\
Questions about properties and the order of events, each query with another range and filter; DuckDB and chDB have typed columns.
1,000 events, 2 cores:

| ms | service http uncached | duckdb | service http uncached, nothing cached |
|---|---|---|---|
| {LABELS["numbers"]} | 4.3 | - | 4.3 |
| {LABELS["did_not"]} | 4.3 | 123 | 4.3 |

"""  # noqa: E501
    assert replaced(page, report) == (
        f"before\n<!-- table: wide-readme -->\n{table}<!-- end -->\nafter\n"
    )
    assert replaced(page, Report(10, "", [], [], {}, {})) == page
