"""What panels ask, of Prometheus and of PostgreSQL."""

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
    """Those of one file by name; each carries its name into PostgreSQL's logs."""
    _, *parts = _NAME.split((_SQL / f"{file}.sql").read_text())
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return {name: f"/* {name} */ {_COMMENT.sub('', body).strip()}" for name, body in pairs}


def promql(expr: str, legend: str = "", *, instant: bool = False) -> Json:
    """A query of Prometheus. `instant`: of the end of the range alone."""
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
    """A metric of the chosen instances. A value that begins with `~` is a pattern, with `!` not."""
    matchers = ['job="analytics"', 'instance=~"$instance"']
    for label, value in labels.items():
        sign = {"~": "=~", "!": "!="}.get(value[0], "=")
        matchers.append(f'{label}{sign}"{value.lstrip("~!")}"')
    return f"{name}{{{', '.join(matchers)}}}"


def rate(name: str, by: str = "", **labels: str) -> str:
    """How much a counter grows a second, all instances together."""
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({series(name, **labels)}[$__rate_interval]))"


def quantile(share: float, name: str, by: str = "") -> str:
    """Of a histogram."""
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{name}_bucket', grouped)})"


def or_none(expr: str, label: str) -> str:
    """A line at 0 named `none` until there is something: counters begin with their first event."""
    return f'{expr} or on () label_replace(vector(0), "{label}", "none", "", "")'


def or_zero(expr: str) -> str:
    return f"({expr} or vector(0))"
