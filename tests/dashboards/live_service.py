"""A service under load with Prometheus and Grafana's role, for tests of dashboards and pictures."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.dashboards.macros import DashboardView
from tests.dashboards.panel_data import Sources
from tests.dashboards.prometheus import prometheus
from tests.dashboards.traffic import background_traffic
from tests.faults.service_process import service
from tests.servers import as_role
from tests.source_comparison import connected
from tests.wait_until import wait_until
from tools.dashboards.queries import Json

MAIN = str(Path(__file__).parents[2] / "main.py")
ZONE = "Europe/Berlin"
ZONES = ("UTC", ZONE, "Pacific/Auckland", "America/Los_Angeles")
_ZONES = ",".join(ZONES)
_NAMES = "page_view,search,product_view,login,add_to_cart,purchase"


def make_demo_data(url: str, events: int) -> None:
    """Insert demo events of 90 days and fold them."""
    _run(url, "demo", "--events", str(events))
    _run(url, "rollup", "--once")


@contextmanager
def live_sources(
    url: str, redis_url: str, seconds: float, *, scrape_s: int = 1, pause_s: float = 0.02
) -> Iterator[Sources]:
    """The data sources after so many seconds of traffic that fills all panels."""
    with (
        service(
            url, redis_url, ANALYTICS_TIME_ZONES=_ZONES, ANALYTICS_METRIC_EVENTS=_NAMES
        ) as process,
        prometheus([process.port], f"{scrape_s}s") as base,
        connected(as_role(url, "grafana")) as conn,
        background_traffic(process, pause_s),
    ):
        began = time.monotonic()
        _run(url, "retain", "--raw", "80d", "--yes")
        wait_until(lambda: time.monotonic() - began > seconds, timeout_s=2 * seconds + 60)
        yield Sources(base, conn)


def view_of(board: Json, seconds: float, zone: str = ZONE, scrape_s: int = 1) -> DashboardView:
    """The range of the traffic; for dashboards by day, the last month."""
    now = datetime.now(UTC)
    variables = {"zone": zone, "event": "event_name", "instance": ".+"}
    if board["uid"] == "analytics":
        return DashboardView(now - timedelta(days=29), now, variables)
    return DashboardView(
        now - timedelta(seconds=seconds), now, variables, scrape=timedelta(seconds=scrape_s)
    )


def _run(url: str, *words: str) -> None:
    environment = {**os.environ, "DATABASE_URL": url, "ANALYTICS_TIME_ZONES": _ZONES}
    command = [sys.executable, MAIN, *words]
    subprocess.run(command, env=environment, check=True, capture_output=True)
