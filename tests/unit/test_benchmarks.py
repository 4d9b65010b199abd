"""What the benchmark asks about is the same every day, and cut where the service cuts it."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise

import pyarrow.compute as pc

from bench.cases import Case, address, cases, query_texts
from bench.event_set import DAYS, END, PATHS, START, days_of_events, sample
from bench.report import Report, Row
from bench.tables import replaced
from bench.wide.cases import (
    QUESTIONS,
    Condition,
    WideCase,
    wide_cases,
    wide_query_texts,
)

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
        has_filters = listed[0].condition.where
        assert len(set(listed)) == (200 if has_filters else DAYS - 30 + 1)
        for first, second in pairwise(listed):
            assert first.start != second.start
            assert first.condition != second.condition or not has_filters
            assert second.end - second.start == timedelta(days=30)


def test_a_breakdown_is_spelled_for_each_system() -> None:
    case = WideCase("by_pair", date(2026, 9, 1), date(2026, 10, 1), CONDITION)
    assert case.address == ("/analytics/breakdown?start=2026-09-01&end=2026-10-01&by=plan&by=path")
    assert "group by plan, path" in wide_query_texts("wide_postgresql", "Z")(case)
    assert "properties->>'path' as path" in wide_query_texts("wide_postgresql", "Z")(case)
    assert "anti   join top using (plan, path)" in wide_query_texts("wide_duckdb")(case)
    assert "if((plan, path) in top" in wide_query_texts("wide_chdb")(case)


def test_a_query_with_a_filter_is_spelled_for_each_system() -> None:
    case = WideCase("filtered_per_day", date(2026, 9, 1), date(2026, 10, 1), CONDITION)
    assert case.address == (
        "/analytics/event-counts?start=2026-09-01&end=2026-10-01"
        "&where=plan:pro+country:US&interval=day"
    )
    ends = "occurred_at >= '2026-09-01 00:00:00' and occurred_at < '2026-10-01 00:00:00'"
    assert f"{ends} and plan = 'pro'" in wide_query_texts("wide_duckdb")(case)
    assert "2026-10-01 00:00:00Z' and properties->>'plan' = 'pro'" in wide_query_texts(
        "wide_postgresql", "Z"
    )(case)


def test_a_funnel_is_spelled_for_each_system() -> None:
    case = WideCase("funnel_rare", date(2026, 9, 1), date(2026, 10, 1), CONDITION)
    assert case.address == (
        "/analytics/funnel?start=2026-09-01&end=2026-10-01"
        "&step=add_to_cart&step=checkout_started&step=purchase&within=7d"
    )
    for file in ("wide_duckdb", "wide_postgresql", "wide_chdb"):
        text = wide_query_texts(file)(case)
        assert "occurred_at < '2026-10-08 00:00:00'" in text
        assert "event_name in ('add_to_cart', 'checkout_started', 'purchase')" in text


def test_tables_of_pages_are_replaced_by_those_of_a_report() -> None:
    page = "before\n<!-- table: wide-readme -->\nold\n<!-- end -->\nafter\n"
    names = ("service http uncached", "service in process", "duckdb")
    rows = [
        Row(question, system, state, ms, "")
        for question in QUESTIONS
        for system, ms in zip(names, (4.321, 3.3, 123.4), strict=True)
        for state in ("warm", "cold")
    ]
    report = Report(1_000, "2 cores", [], rows, {}, {})
    table = f"""\
Counts under filters on properties, and by their values, each query with another range and filter; DuckDB and chDB have typed columns.
1,000 events, 2 cores:

| ms | {" | ".join(QUESTIONS.values())} |
{"|---" * (1 + len(QUESTIONS))}|
| service http uncached {"| 4.3 " * len(QUESTIONS)}|
| duckdb {"| 123 " * len(QUESTIONS)}|
| service http uncached, nothing cached {"| 4.3 " * len(QUESTIONS)}|

"""  # noqa: E501
    assert replaced(page, report) == (
        f"before\n<!-- table: wide-readme -->\n{table}<!-- end -->\nafter\n"
    )
    assert replaced(page, Report(10, "", [], [], {}, {})) == page
