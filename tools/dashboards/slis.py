"""Panels of the service level indicators and their objectives."""

from tools.dashboards.panels import BAD, EVENTS, GOOD, QUIET, WARN, lines, stat
from tools.dashboards.queries import Json, or_zero, promql, quantile, rate, series

_REQUESTS = "http_requests_total"
_QUESTION = "analytics_question_duration_seconds"
OBJECTIVE_S = 0.25
_WINDOWS = {"1h": WARN, "6h": EVENTS, "3d": QUIET}
"""The windows of burn rates, and their colours."""


def reached() -> Json:
    return stat(
        "Servers",
        "Whether the workers reach PostgreSQL and Redis. Without PostgreSQL only cached answers "
        "are served; without Redis all are computed. If one is down, check that server first.",
        promql(f"min by (server) ({series('analytics_up')})", "{{server}}"),
        unit="none",
        color=BAD,
        steps=[(1, GOOD)],
        spark=False,
        mappings=[
            {
                "type": "value",
                "options": {
                    "0": {"text": "down", "color": BAD, "index": 0},
                    "1": {"text": "up", "color": GOOD, "index": 1},
                },
            }
        ],
    )


def alerts() -> Json:
    return stat(
        "Alerts",
        "The number of firing alerts. Prometheus names them, and docs/operations.md says what to "
        "do about each.",
        promql(or_zero('count (ALERTS{alertname=~"Analytics.+", alertstate="firing"})')),
        unit="none",
        color=GOOD,
        steps=[(1, BAD)],
        spark=False,
    )


def available() -> Json:
    labels = {"route": "~/analytics/.+|/events"}
    failed = f"sum (increase({series(_REQUESTS, **labels, status='~5..')}[$__range]))"
    total = f"sum (increase({series(_REQUESTS, **labels, status='!499')}[$__range]))"
    return stat(
        "Availability",
        "Share of questions and event requests in the range without a 5xx. The objective is "
        "99.9 %: below it, Requests by status shows what failed.",
        promql(f"1 - {or_zero(failed)} / ({total} > 0)", instant=True),
        unit="percentunit",
        color=BAD,
        steps=[(0.995, WARN), (0.999, GOOD)],
        decimals=3,
        spark=False,
    )


def requests() -> Json:
    return stat(
        "Requests",
        "Requests per second, all routes together.",
        promql(rate(_REQUESTS)),
        unit="reqps",
    )


def errors() -> Json:
    failed = or_zero(rate(_REQUESTS, status="~5.."))
    return stat(
        "Errors",
        "Current share of requests answered with a 5xx. If it stays above 0.1 %, the objective is "
        "missed.",
        promql(f"{failed} / {rate(_REQUESTS)}"),
        unit="percentunit",
        color=GOOD,
        steps=[(0.001, WARN), (0.01, BAD)],
    )


def slowest() -> Json:
    return stat(
        "Duration, p95",
        "95 % of requests took at most this long, cached answers included.",
        promql(quantile(0.95, "http_request_duration_seconds")),
        unit="s",
        color=GOOD,
        steps=[(OBJECTIVE_S, WARN), (1, BAD)],
    )


def in_time() -> Json:
    in_time_rate = rate(f"{_QUESTION}_bucket", source="rollups", le=str(OBJECTIVE_S))
    return stat(
        "Questions in time",
        "Share of questions computed from rollups that took at most 250 ms. The objective is 99 %: "
        "below it, the section Questions shows which are slow, and Connections whether they wait.",
        promql(f"{in_time_rate} / ({rate(f'{_QUESTION}_count', source='rollups')} > 0)"),
        unit="percentunit",
        color=BAD,
        steps=[(0.95, WARN), (0.99, GOOD)],
        decimals=2,
    )


def failed() -> Json:
    return lines(
        "Error budget: failed requests",
        "Burn rate: how many times faster than the objective of 99.9 % allows requests fail. At 1 "
        "the budget lasts exactly 30 days. From 14.4 within an hour on, the alert pages.",
        *_burn_rates("requests_failed", 0.001),
        unit="none",
        colors=_WINDOWS,
        limit=14.4,
        decimals=1,
    )


def slow() -> Json:
    return lines(
        "Error budget: slow questions",
        "Burn rate: how many times faster than the objective of 99 % within 250 ms allows "
        "questions are slow. Only questions computed from rollups count.",
        *_burn_rates("questions_slow", 0.01),
        unit="none",
        colors=_WINDOWS,
        limit=14.4,
        decimals=1,
    )


def _burn_rates(ratio: str, budget: float) -> list[Json]:
    """Burn rates by window, from recording rules, which cover all instances."""
    return [
        promql(f"(analytics:{ratio}:ratio_rate{span} or vector(0)) / {budget}", span)
        for span in _WINDOWS
    ]


def tail() -> Json:
    return lines(
        "Age of the tail",
        "How long events have waited to be folded. Answers include them anyway; only their cost "
        "grows. Above the dashed line, 10 s, the rollup worker is stopped or cannot keep up: see "
        "the dashboard Analytics Data.",
        promql("analytics:rollup_lag_seconds:max", "age"),
        unit="s",
        colors={"age": EVENTS},
        limit=10,
    )
