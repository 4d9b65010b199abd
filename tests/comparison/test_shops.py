"""Compare answers with the known events of two shops, from a package: `make test-comparison`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.questions import ask
from tests.cli import run_cli
from tests.comparison.environment import dataset
from tests.events import fold
from tests.live_server import running
from tests.servers import Cluster

MAPPING = ("--map", "event_name=event", "--map", "occurred_at=timestamp", "--tz", "UTC")


def shop(cluster: Cluster, redis_url: str, file: Path, *options: str) -> Iterator[httpx.Client]:
    """The service over the events of a file."""
    url = cluster.migrated_database()
    done = run_cli("load", file, *MAPPING, *options, DATABASE_URL=url)
    assert done.exit_code == 0, done.output
    fold(url)
    with running(url, redis_url) as client:
        yield client
    cluster.drop(url)


@pytest.fixture(scope="module")
def online_shop(
    cluster: Cluster, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    file = tmp_path_factory.mktemp("shop") / "shop.csv"
    file.write_bytes(
        dataset(
            "retentioneering-3.3.0-py3-none-any.whl",
            "retentioneering/datasets/data/simple-onlineshop.csv",
            "c150f67d9a816718b2be0ffd55a9661be1f96f7174f6793081aa4cbe648c95e8",
        )
    )
    yield from shop(cluster, redis_url, file)


@pytest.fixture(scope="module")
def other_shop(
    cluster: Cluster, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    file = tmp_path_factory.mktemp("shop") / "shop.csv.gz"
    file.write_bytes(
        dataset(
            "retentioneering-5.2.4-py3-none-any.whl",
            "retentioneering/datasets/ecom.csv.gz",
            "f4ab91b67c6deed93728bfb6e503adfe304f101a53e9112ee0219b304b0f3b1a",
        )
    )
    yield from shop(cluster, redis_url, file, "--property", "*")


ALL_YEARS = {"start": "2015-01-01", "end": "2026-01-01"}


def reached(client: httpx.Client, steps: str, **parameters: Any) -> list[int]:
    """The users who reach each step of a funnel."""
    data = ask(client, "funnel", step=steps.split(), **{**ALL_YEARS, **parameters})["data"]
    return [step["users"] for step in data["steps"]]


def test_all_events_are_loaded(online_shop: httpx.Client) -> None:
    data = ask(online_shop, "event-counts", **ALL_YEARS)["data"]
    assert data == {"events": 32_283, "users": 3_751}


@pytest.mark.parametrize(
    ("steps", "users"),
    [
        ("catalog cart payment_done", [3_611, 1_924, 653]),
        ("catalog catalog cart", [3_611, 2_524, 1_279]),
    ],
)
def test_funnels_of_an_hour(online_shop: httpx.Client, steps: str, users: list[int]) -> None:
    assert reached(online_shop, steps, within="1h") == users


@pytest.mark.parametrize(
    ("parameters", "entered", "users"),
    [
        ({}, 249, [9, 7, 10, 2, 10, 7, 2]),
        ({"count": "on_or_after"}, 249, [129, 127, 124, 121, 121, 117, 116]),
        ({"tz": "Asia/Tokyo"}, 249, [9, 10, 7, 5, 9, 6, 2]),
        ({"entry": "first_in_range"}, 351, [12, 13, 13, 7, 15, 14, 11]),
        ({"clock": "24h"}, 249, [6, 11, 4, 6, 10, 4, 2]),
    ],
)
def test_retention_of_a_month(
    online_shop: httpx.Client, parameters: dict[str, str], entered: int, users: list[int]
) -> None:
    december = {"start": "2019-12-01T00:00:00Z", "end": "2020-01-01T00:00:00Z"}
    data = ask(online_shop, "retention", **december, **parameters)["data"]
    assert [cell["users"] for cell in data["total"][1:]] == users
    assert sum(cohort["users"] for cohort in data["cohorts"]) == entered


@pytest.mark.parametrize(("within", "users"), [("366d", [598, 517, 290]), ("1d", [598, 482, 208])])
def test_funnels_of_another_shop(other_shop: httpx.Client, within: str, users: list[int]) -> None:
    data = ask(other_shop, "event-counts", **ALL_YEARS)["data"]
    assert data == {"events": 31_106, "users": 600}
    assert reached(other_shop, "product_view add_to_cart purchase", within=within) == users
