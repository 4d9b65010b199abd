"""Queries of panels, to Prometheus and PostgreSQL."""

import re
from pathlib import Path
from typing import Any, Literal

Json = dict[str, Any]

PROMETHEUS: Json = {"type": "prometheus", "uid": "prometheus"}
POSTGRES: Json = {"type": "grafana-postgresql-datasource", "uid": "postgres"}

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_SQL = Path(__file__).parent / "sql"
_COMMENT = re.compile(r"^-- .*\n", re.MULTILINE)


def statements(file: str) -> dict[str, str]:
    """The statements of a file by name; each begins with its name, for PostgreSQL's logs."""
    _, *parts = _NAME.split((_SQL / f"{file}.sql").read_text())
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return {name: f"/* {name} */ {_COMMENT.sub('', body).strip()}" for name, body in pairs}


def promql(expr: str, legend: str = "", *, instant: bool = False) -> Json:
    """A query to Prometheus. `instant` evaluates it only at the end of the range."""
    return {
        "datasource": PROMETHEUS,
        "editorMode": "code",
        "expr": expr,
        "legendFormat": legend or "__auto",
        "instant": instant,
        "range": not instant,
        **({"format": "table"} if instant else {}),
    }


def sql(text: str, form: Literal["table", "time_series"] = "table") -> Json:
    return {
        "datasource": POSTGRES,
        "editorMode": "code",
        "format": form,
        "rawQuery": True,
        "rawSql": text,
    }


def series(name: str, **labels: str) -> str:
    """A selector of the chosen instances; values may begin with `~` (matches) or `!` (not)."""
    matchers = ['job="analytics"', 'instance=~"$instance"']
    for label, value in labels.items():
        sign = {"~": "=~", "!": "!="}.get(value[0], "=")
        matchers.append(f'{label}{sign}"{value.lstrip("~!")}"')
    return f"{name}{{{', '.join(matchers)}}}"


def rate(name: str, by: str = "", **labels: str) -> str:
    """The increase of a counter per second, summed over all instances."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({series(name, **labels)}[$__rate_interval]))"


def quantile(share: float, name: str, by: str = "") -> str:
    """A quantile of a histogram; `share` is between 0 and 1."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{name}_bucket', grouped)})"


def or_none(expr: str, label: str) -> str:
    """Add a line `none` at 0 while there is no series, since some counters begin with an event."""
    return f'{expr} or on () label_replace(vector(0), "{label}", "none", "", "")'


def or_zero(expr: str) -> str:
    return f"({expr} or vector(0))"
