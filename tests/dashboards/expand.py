"""What Grafana makes of a query before it sends it: variables, macros, intervals.

Sources: grafana's `pkg/tsdb/grafana-postgresql-datasource/macros.go`,
`packages/grafana-prometheus/src/datasource.ts` and `public/app/features/templating`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from grafana.targets import Json

SCRAPE = timedelta(seconds=15)
"""`timeInterval` of the data source."""


@dataclass(frozen=True)
class Moment:
    """What a dashboard shows: its range, and what is chosen above it."""

    start: datetime
    end: datetime
    variables: Mapping[str, str] = field(default_factory=dict)
    """As they stand in a query."""
    points: int = 600
    """How wide a panel is, in pixels."""
    scrape: timedelta = SCRAPE

    @staticmethod
    def example() -> "Moment":
        end = datetime(2026, 3, 29, 12, 30, tzinfo=UTC)
        every = {"zone": "UTC", "event": "event_name", "instance": ".+"}
        return Moment(end - timedelta(hours=6), end, every)

    @property
    def step(self) -> timedelta:
        """`$__interval`: as many points as there is room for, never finer than scrapes."""
        seconds = (self.end - self.start).total_seconds() / self.points
        return max(timedelta(seconds=round(seconds)), self.scrape)

    @property
    def rate_interval(self) -> timedelta:
        return max(self.step + self.scrape, 4 * self.scrape)


def expanded(target: Json, moment: Moment) -> str:
    text: str = target["expr"] if "expr" in target else target["rawSql"]
    made = _promql(text, moment) if "expr" in target else _sql(text, moment)
    for name, value in moment.variables.items():
        made = re.sub(rf"\${name}\b", value.replace("\\", r"\\"), made)
    return made


def _promql(text: str, moment: Moment) -> str:
    whole = moment.end - moment.start
    for name, span in (
        ("__rate_interval", moment.rate_interval),
        ("__interval", moment.step),
        ("__range", whole),
    ):
        text = text.replace(f"${name}", _duration(span))
    return text


def _duration(span: timedelta) -> str:
    return f"{max(1, round(span.total_seconds()))}s"


def _sql(text: str, moment: Moment) -> str:
    start, end = (f"'{each:%Y-%m-%dT%H:%M:%SZ}'" for each in (moment.start, moment.end))
    text = re.sub(r"\$__timeFilter\((.+?)\)", rf"\1 BETWEEN {start} AND {end}", text)
    text = text.replace("$__timeFrom()", start).replace("$__timeTo()", end)
    return text.replace("$__interval", _duration(moment.step))
