"""Expands a query as Grafana does before it sends it: variables, macros, intervals.

Sources: grafana's `pkg/tsdb/grafana-postgresql-datasource/macros.go`,
`packages/grafana-prometheus/src/datasource.ts` and `public/app/features/templating`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tools.dashboards.queries import Json

SCRAPE = timedelta(seconds=15)
"""The `timeInterval` of the data source."""


@dataclass(frozen=True)
class DashboardView:
    """The state of a dashboard: its time range and the selected variables."""

    start: datetime
    end: datetime
    variables: Mapping[str, str] = field(default_factory=dict)
    """The text that replaces each variable in a query."""
    points: int = 600
    """The width of a panel in pixels."""
    scrape: timedelta = SCRAPE

    @staticmethod
    def example() -> "DashboardView":
        end = datetime(2026, 3, 29, 12, 30, tzinfo=UTC)
        variables = {"zone": "UTC", "event": "event_name", "instance": ".+"}
        return DashboardView(end - timedelta(hours=6), end, variables)

    @property
    def step(self) -> timedelta:
        """The value of `$__interval`: one point per pixel, but never finer than scrapes."""
        seconds = (self.end - self.start).total_seconds() / self.points
        return max(timedelta(seconds=round(seconds)), self.scrape)

    @property
    def rate_interval(self) -> timedelta:
        return max(self.step + self.scrape, 4 * self.scrape)


def expand_macros(target: Json, view: DashboardView) -> str:
    text: str = target["expr"] if "expr" in target else target["rawSql"]
    query = _promql(text, view) if "expr" in target else _sql(text, view)
    for name, value in view.variables.items():
        query = re.sub(rf"\${name}\b", value.replace("\\", r"\\"), query)
    return query


def _promql(text: str, view: DashboardView) -> str:
    range_length = view.end - view.start
    for name, span in (
        ("__rate_interval", view.rate_interval),
        ("__interval", view.step),
        ("__range", range_length),
    ):
        text = text.replace(f"${name}", _duration(span))
    return text


def _duration(span: timedelta) -> str:
    return f"{max(1, round(span.total_seconds()))}s"


def _sql(text: str, view: DashboardView) -> str:
    start, end = (f"'{each:%Y-%m-%dT%H:%M:%SZ}'" for each in (view.start, view.end))
    text = re.sub(r"\$__timeFilter\((.+?)\)", rf"\1 BETWEEN {start} AND {end}", text)
    text = text.replace("$__timeFrom()", start).replace("$__timeTo()", end)
    return text.replace("$__interval", _duration(view.step))
