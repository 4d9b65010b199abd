"""Percentiles, sums and averages are those of PostgreSQL over the events themselves."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection
from psycopg2.extras import execute_values

from common.questions.numbers import Numbers
from repo.events import EventsRepo
from repo.rollups.rollup_writer import RollupWriter
from tests.column_writer import write_columns
from tests.example_counts import examples
from tests.servers import Cluster
from tests.source_comparison import finished
from utils.time.zones import zone

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
STATISTICS = "sum,avg,min,max,p0,p12.5,p50,p95,p99.9,p100"
FRACTIONS = [0, 0.125, 0.5, 0.95, 0.999, 1]

EMPTY = """
set session_replication_role = replica;
delete from events;
truncate fold_state, slots, sealed_spans, spans, future_events, month_versions, users, event_names,
         batch_log, column_state, column_chunks, column_data, column_paths, columns_erasures;
reset session_replication_role
"""
INSERT = "insert into events (event_id, user_id, event_name, occurred_at, properties) values %s"
EXPECTED = """
with numbers as (
    select user_id, amount::numeric as amount
    from   events,
           jsonb_path_query(properties, 'strict $.amount ? (@.type() == "number")') as amount
    where  occurred_at >= %(start)s
    and    occurred_at < %(end)s
),
sampled as (
    select amount from numbers where not %(per_user)s
    union  all
    select sum(amount) from numbers where %(per_user)s and user_id <> '' group by user_id
)
select count(*),
       coalesce(sum(amount), 0),
       min(amount),
       max(amount),
       percentile_cont(%(fractions)s::float8[]) within group (order by amount::float8)
from   sampled
"""

amounts = st.one_of(
    st.integers(-5, 5).map(Decimal),
    st.decimals(-1000, 1000, places=2),
    st.integers(-(2**70), 2**70).map(Decimal),
    st.integers(-(10**25), 10**25).map(lambda number: Decimal(number).scaleb(-18)),
)
events = st.tuples(
    st.sampled_from(["", "u", "v", "w"]), st.integers(0, 3), st.sampled_from(["", '"x"', "true"]),
    amounts,
)  # fmt: skip


@pytest.fixture(scope="module")
def database_url(cluster: Cluster) -> str:
    return cluster.migrated_database()


def insert(owner: connection, stored: list[tuple[str, int, str, Decimal]]) -> None:
    rows = [
        (str(uuid4()), user, "buy", NOON + timedelta(days=day), f'{{"amount": {other or amount}}}')
        for user, day, other, amount in stored
    ]
    with owner.cursor() as cur:
        execute_values(cur, INSERT, rows)


@given(
    stored=st.lists(events, max_size=30),
    written=st.integers(0, 30),
    size=st.integers(1, 7),
    per=st.sampled_from(["event", "user"]),
)
@settings(max_examples=examples(150))
@pytest.mark.thorough
def test_statistics_are_those_of_postgresql(
    owner: connection,
    repo: EventsRepo,
    stored: list[tuple[str, int, str, Decimal]],
    written: int,
    size: int,
    per: Any,
) -> None:
    owner.cursor().execute(EMPTY)
    insert(owner, stored[:written])
    while RollupWriter(owner, [zone("UTC")]).step().has_more:
        pass
    write_columns(owner, size)
    insert(owner, stored[written:])
    question = Numbers(
        of="amount", stat=STATISTICS, per=per, interval="day", start=NOON.date(),
        end=NOON.date() + timedelta(days=4),
    )  # fmt: skip
    answer = finished(repo.get_numbers(question.query))
    rows = [(answer.meta.start, answer.meta.end, answer.data)]
    rows += [(each["start"], each["end"], each) for each in answer.data["series"]]
    for start, end, row in rows:
        params = {"start": start, "end": end, "per_user": per == "user", "fractions": FRACTIONS}
        assert_expected(owner, params, row)


def assert_expected(owner: connection, params: dict[str, Any], row: Any) -> None:
    with owner.cursor() as cur:
        cur.execute(EXPECTED, params)
        count, total, least, greatest, percentiles = cur.fetchone() or ()
    assert row["count"] == count
    assert [number(row[name]) for name in ("sum", "min", "max")] == [total, least, greatest]
    assert row["avg"] == (float(Fraction(total) / count) if count else None)
    assert [row[f"p{name}"] for name in ("0", "12.5", "50", "95", "99.9", "100")] == (
        percentiles or [None] * len(FRACTIONS)
    )


def number(raw: Any) -> Decimal | None:
    return None if raw is None else Decimal(bytes(raw).decode())
