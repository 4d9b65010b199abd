"""Answers about random events are those of chDB and DuckDB: `make test-comparison`."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psycopg2
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.api.questions import ask
from tests.comparison.environment import CHDB, DUCKDB, path_text, rows_of
from tests.events import fold, insert
from tests.live_server import running
from tests.servers import Cluster

BEGIN = datetime(2025, 3, 1, tzinfo=UTC)
DAYS = 6
RANGE = {"start": "2025-03-01", "end": "2025-03-07"}
NAMES = ("view", "cart", "buy", "leave")
PLANS = ("pro", "team", "free")
SEEDS = range(4)


@dataclass(frozen=True)
class Shop:
    client: httpx.Client
    file: Path
    """Parquet with the same events: user_id, event_name, time (microseconds), day, plan, amount."""


@pytest.fixture(scope="module", params=SEEDS)
def shop(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Shop]:
    """The service over random events; no user has two at one instant."""
    random = Random(request.param)
    events = random_events(random)
    url = cluster.migrated_database()
    with psycopg2.connect(url) as conn:
        insert(conn, *events)
    conn.close()
    fold(url)
    file = tmp_path_factory.mktemp("shop") / "events.parquet"
    write(events, file)
    with running(url, redis_url) as client:
        yield Shop(client, file)
    cluster.drop(url)


Event = tuple[str, str, datetime, dict[str, Any]]


def random_events(random: Random) -> list[Event]:
    return [
        event
        for user in range(random.randint(40, 120))
        for event in events_of(random, f"u{user}", random.randint(1, 40))
    ]


def events_of(random: Random, user: str, count: int) -> Iterator[Event]:
    # Few distinct times, so that windows often end exactly with an event.
    for step in random.sample(range(DAYS * 24 * 12), count):
        properties: dict[str, Any] = {"plan": random.choice(PLANS)}
        if random.random() < 0.5:
            properties["amount"] = random.randint(-50, 500) / 4
        instant = BEGIN + step * timedelta(minutes=5)
        yield user, random.choice(NAMES), instant, properties


def write(events: list[Event], file: Path) -> None:
    users, names, times, properties = zip(*events, strict=True)
    micros = [(each - BEGIN) // timedelta.resolution for each in times]
    columns = {
        "user_id": users,
        "event_name": names,
        "time": pa.array(micros, pa.uint64()),
        "day": [(each - BEGIN).days for each in times],
        "plan": [each["plan"] for each in properties],
        "amount": pa.array([each.get("amount") for each in properties], pa.float64()),
    }
    pa.parquet.write_table(pa.table(columns), file)


def funnels(seed: int) -> list[tuple[list[str], int]]:
    """Steps, which may repeat, and minutes."""
    random = Random(seed)
    return [
        ([random.choice(NAMES) for _ in range(random.randint(2, 4))], 5 * random.randint(1, 300))
        for _ in range(12)
    ]


FUNNEL = """
select level, count()
from   (
    select user_id, windowFunnel({window}, 'strict_once')(time, {steps}) as level
    from   file({file}, Parquet) group by user_id
)
where  level > 0 group by level
"""


def test_funnels_are_those_of_window_funnel(shop: Shop) -> None:
    cases = funnels(3)
    statements = [
        FUNNEL.format(
            window=minutes * 60_000_000,
            steps=", ".join(f"event_name = '{name}'" for name in steps),
            file=path_text(shop.file),
        )
        for steps, minutes in cases
    ]
    for (steps, minutes), rows in zip(cases, rows_of(CHDB, statements), strict=True):
        answer = ask(shop.client, "funnel", step=steps, within=f"{minutes}m", **RANGE)["data"]
        furthest = {int(level): int(users) for level, users in rows}
        reached = [
            sum(users for level, users in furthest.items() if level > step)
            for step in range(len(steps))
        ]
        assert [step["users"] for step in answer["steps"]] == reached, (steps, minutes)


def chain(steps: list[str], minutes: int, file: Path) -> str:
    """Count users who have a chain of events, by joining events with the first one."""
    parts = [f"read_parquet({path_text(file)}) e{n}" for n in range(len(steps))]
    named = [f"e{n}.event_name = '{name}'" for n, name in enumerate(steps)]
    same = [f"e{n}.user_id = e0.user_id" for n in range(1, len(steps))]
    later = [f"e{n}.time > e{n - 1}.time" for n in range(1, len(steps))]
    within = [f"e{len(steps) - 1}.time <= e0.time + {minutes * 60_000_000}"]
    conditions = " and ".join([*named, *same, *later, *within])
    return f"select count(distinct e0.user_id) from {', '.join(parts)} where {conditions}"


def test_funnels_are_those_of_joins(shop: Shop) -> None:
    cases = funnels(7)
    statements = [chain(steps, minutes, shop.file) for steps, minutes in cases]
    for (steps, minutes), (row,) in zip(cases, rows_of(DUCKDB, statements), strict=True):
        answer = ask(shop.client, "funnel", step=steps, within=f"{minutes}m", **RANGE)["data"]
        assert answer["converted"] == int(row[0]), (steps, minutes)


RETENTION = """
select {sums}
from   (
    select retention({conditions}) as r from file({file}, Parquet) group by user_id
)
"""


@pytest.mark.parametrize(("entry", "comeback"), [("view", "buy"), ("cart", "cart")])
def test_retention_of_each_day_is_that_of_chdb(shop: Shop, entry: str, comeback: str) -> None:
    """chDB's function: the first condition, and each other one together with the first."""
    statements = [
        RETENTION.format(
            sums=", ".join(f"sum(r[{n + 1}])" for n in range(DAYS - day)),
            conditions=", ".join(
                f"event_name = '{entry if n == day else comeback}' and day = {n}"
                for n in range(day, DAYS)
            ),
            file=path_text(shop.file),
        )
        for day in range(DAYS - 1)  # the function has at least two conditions
    ]
    parameters = {"from": entry, "to": comeback, "entry": "each", "periods": DAYS, **RANGE}
    answer = ask(shop.client, "retention", **parameters)["data"]
    for cohort, (row,) in zip(answer["cohorts"][:-1], rows_of(CHDB, statements), strict=True):
        users, *returned = map(int, row)
        assert cohort["users"] == users
        assert [cell["users"] for cell in cohort["cells"][1 : len(row)]] == returned


FIRST_EVER = """
with entries as (
    select user_id, min(day) as day from read_parquet({file})
    where event_name = '{entry}' group by user_id
)
select entries.day, e.day - entries.day, count(distinct e.user_id)
from   entries join read_parquet({file}) e using (user_id)
where  e.event_name = '{comeback}' and e.day > entries.day group by 1, 2
"""


def test_retention_of_new_users_is_that_of_sql(shop: Shop) -> None:
    statement = FIRST_EVER.format(file=path_text(shop.file), entry="view", comeback="buy")
    (rows,) = rows_of(DUCKDB, [statement])
    parameters = {"from": "view", "to": "buy", "periods": DAYS, **RANGE}
    cohorts = ask(shop.client, "retention", **parameters)["data"]["cohorts"]
    returned = {
        (str(day), str(period)): str(cell["users"])
        for day, cohort in enumerate(cohorts)
        for period, cell in enumerate(cohort["cells"])
        if period and cell["users"]
    }
    assert returned == {(day, period): users for day, period, users in rows}


BREAKDOWN = """
select plan, count(), uniqExact(user_id), toString(sum(amount)),
       quantileExactInclusive(0.5)(amount), quantileExactInclusive(0.95)(amount)
from   file({file}, Parquet) where event_name = 'buy' group by plan
"""


def test_users_and_percentiles_by_value_are_those_of_chdb(shop: Shop) -> None:
    (rows,) = rows_of(CHDB, [BREAKDOWN.format(file=path_text(shop.file))])
    breakdown = ask(shop.client, "breakdown", by="plan", event="buy", **RANGE)["data"]
    counts = {row["values"][0]: (row["events"], row["users"]) for row in breakdown["rows"]}
    assert counts == {plan: (int(events), int(users)) for plan, events, users, *_ in rows}
    for plan, _, _, total, median, p95 in rows:
        parameters = {"of": "amount", "stat": "sum,p50,p95", "where": f"plan:{plan}"}
        numbers = ask(shop.client, "numbers", **parameters, event="buy", **RANGE)["data"]
        assert numbers["sum"] == float(total)
        assert numbers["p50"] == pytest.approx(float(median), rel=1e-12)
        assert numbers["p95"] == pytest.approx(float(p95), rel=1e-12)


BY_DAY = """
select day, count(), count(distinct user_id), sum(amount),
       quantile_cont(amount, 0.5), quantile_cont(amount, 0.9)
from   read_parquet({file}) group by day order by day
"""


def test_numbers_by_day_are_those_of_duckdb(shop: Shop) -> None:
    (rows,) = rows_of(DUCKDB, [BY_DAY.format(file=path_text(shop.file))])
    counts = ask(shop.client, "event-counts", interval="day", **RANGE)["data"]["series"]
    numbers = ask(shop.client, "numbers", of="amount", stat="sum,p50,p90", interval="day", **RANGE)[
        "data"
    ]["series"]
    assert [(each["events"], each["users"]) for each in counts] == [
        (int(events), int(users)) for _, events, users, *_ in rows
    ]
    for bucket, (*_, total, median, p90) in zip(numbers, rows, strict=True):
        assert bucket["sum"] == float(total)
        assert bucket["p50"] == pytest.approx(float(median), rel=1e-12)
        assert bucket["p90"] == pytest.approx(float(p90), rel=1e-12)
