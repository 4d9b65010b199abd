"""Runs the queries of panels, and converts the results to what Grafana passes to a panel."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg2
from psycopg2.extensions import connection

from tests.dashboards.macros import DashboardView, expand_macros
from tools.dashboards.queries import Json

Point = tuple[datetime, float | None]


@dataclass(frozen=True)
class Series:
    """A named time series."""

    name: str
    points: Sequence[Point]

    @property
    def last(self) -> float | None:
        """The last value, as Grafana's `lastNotNull`."""
        return next((value for _, value in reversed(self.points) if value is not None), None)


@dataclass(frozen=True)
class Result:
    """Time series or the columns of a table, and the time of the query in seconds."""

    series: Sequence[Series]
    columns: dict[str, list[Any]]
    seconds: float

    @property
    def has_data(self) -> bool:
        lines = any(line.last is not None for line in self.series)
        return lines or any(value is not None for each in self.columns.values() for value in each)


@dataclass(frozen=True)
class Sources:
    """The two data sources; PostgreSQL with the role of Grafana."""

    prometheus: str
    conn: connection

    def ask(self, target: Json, view: DashboardView) -> Result:
        """Run a query of a panel. Raises: AssertionError if the data source rejects it."""
        began = time.monotonic()
        text = expand_macros(target, view)
        run_query = self._promql if "expr" in target else self._sql
        series, columns = run_query(text, target, view)
        return Result(series, columns, time.monotonic() - began)

    def names(self) -> set[str]:
        """The names of all metrics in Prometheus."""
        values = httpx.get(f"{self.prometheus}/api/v1/label/__name__/values").json()["data"]
        return set(values)

    def _promql(
        self, text: str, target: Json, view: DashboardView
    ) -> tuple[list[Series], dict[str, list[Any]]]:
        if target["instant"]:
            return [], _columns(self._get("query", query=text, time=view.end.timestamp()))
        step = view.step.total_seconds()
        results = self._get(
            "query_range",
            query=text,
            start=view.start.timestamp() // step * step,
            end=view.end.timestamp(),
            step=step,
        )
        return [_matrix_series(each, target["legendFormat"]) for each in results], {}

    def _get(self, path: str, **parameters: Any) -> list[Json]:
        answer = httpx.post(f"{self.prometheus}/api/v1/{path}", data=parameters, timeout=30).json()
        assert answer["status"] == "success", f"{parameters['query']}: {answer.get('error')}"
        results: list[Json] = answer["data"]["result"]
        return results

    def _sql(
        self, text: str, target: Json, view: DashboardView
    ) -> tuple[list[Series], dict[str, list[Any]]]:
        with self.conn.cursor() as cur:
            try:
                cur.execute(text)
            except psycopg2.Error as exc:
                raise AssertionError(f"{text}: {exc}") from exc
            names = [column.name for column in cur.description or ()]
            rows = cur.fetchall()
        if target["format"] == "time_series":
            assert names[0] == "time", text
            assert [row[0] for row in rows] == sorted(row[0] for row in rows), text
            return list(_sql_series(names, rows)), {}
        return [], {name: [row[at] for row in rows] for at, name in enumerate(names)}


def _matrix_series(result: Json, legend: str) -> Series:
    name = legend
    for label, value in result["metric"].items():
        name = name.replace(f"{{{{{label}}}}}", value)
    return Series(
        "value" if name == "__auto" else name,
        [(datetime.fromtimestamp(at, UTC), _number(value)) for at, value in result["values"]],
    )


def _columns(results: list[Json]) -> dict[str, list[Any]]:
    labels = {label for each in results for label in each["metric"]}
    columns: dict[str, list[Any]] = {
        label: [each["metric"].get(label, "") for each in results] for label in sorted(labels)
    }
    return {**columns, "Value": [_number(each["value"][1]) for each in results]} if results else {}


def _number(text: str) -> float | None:
    """A number; None for values that a panel cannot draw, such as NaN."""
    value = float(text)
    return value if value == value and abs(value) != float("inf") else None


def _sql_series(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[Series]:
    """Each column is a series; with a column `metric`, each of its values is one."""
    if names[1:2] == ["metric"]:
        assert len(names) == 3
        for metric in dict.fromkeys(row[1] for row in rows):
            yield Series(
                metric, [(_utc(row[0]), float(row[2])) for row in rows if row[1] == metric]
            )
        return
    for at, name in enumerate(names[1:], 1):
        values = ((row[0], row[at]) for row in rows)
        yield Series(
            name, [(_utc(day), None if value is None else float(value)) for day, value in values]
        )


def _utc(local_time: datetime) -> datetime:
    return local_time.replace(tzinfo=UTC)
