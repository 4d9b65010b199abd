"""The dashboard Analytics Service: indicators that callers notice, then the internals."""

from tools.dashboards import internals, keys, slis
from tools.dashboards.dashboard import INSTANCE, Section, board, top
from tools.dashboards.panels import BAD, EVENTS, GOOD, QUIET, USERS, WARN, bars, lines
from tools.dashboards.queries import Json, or_none, or_zero, promql, quantile, rate, series

_REQUESTS = "http_requests_total"
_SECONDS = "http_request_duration_seconds"
_QUESTION = "analytics_question_duration_seconds"
_CACHE = "analytics_cache_requests_total"


def dashboard() -> Json:
    return board(
        "analytics-service",
        "Analytics Service",
        "Rate, errors, duration and saturation of the service and of its components.",
        [
            top(
                *(slis.reached(), slis.alerts(), slis.available(), slis.requests()),
                *(slis.errors(), slis.slowest(), slis.in_time()),
                widths=(4, 2, 4, 3, 3, 4, 4),
            ),
            Section("Objectives", [slis.failed(), slis.slow(), slis.tail()]),
            Section(
                "Requests",
                [
                    *(_by_route(), _by_status(), keys.requests()),
                    *(_durations(), _duration_by_route(), _in_flight()),
                ],
            ),
            Section("Keys", [keys.refused(), keys.checks()]),
            Section(
                "Questions", [_questions(), _question_durations(), _plan_sources(), _rows_read()]
            ),
            Section("Cache", [_hit_rate(), _cache_results(), _cache_errors()]),
            Section(
                "Connections",
                [
                    *(internals.connections(), internals.waiting()),
                    *(internals.rejected(), internals.replaced()),
                ],
            ),
            Section(
                "Rollups",
                [internals.fold_rate(), internals.fold_duration(), internals.replica()],
            ),
            Section("Workers", [internals.memory(), internals.cpu(), internals.files()]),
        ],
        last="now-3h",
        refresh="30s",
        variables=[INSTANCE],
    )


def _by_route() -> Json:
    return lines(
        "Requests by route",
        "Requests per second by route. If a route has too much traffic, Requests by key and the "
        "log lines name the caller.",
        promql(rate(_REQUESTS, "route"), "{{route}}"),
        unit="reqps",
        stacked=True,
    )


def _by_status() -> Json:
    classes = [("2", "2xx", GOOD), ("3", "3xx", EVENTS), ("4", "4xx", WARN), ("5", "5xx", BAD)]
    return bars(
        "Requests by status",
        "5xx are failures of the service: 503 means that a server is unreachable or connections "
        "are short, 504 that a question took too long, 500 a bug. 4xx are errors of callers: 401 "
        "and 403 keys, 422 parameters, 429 limits.",
        *(promql(or_zero(rate(_REQUESTS, status=f"~{at}..")), name) for at, name, _ in classes),
        unit="reqps",
        colors={name: color for _, name, color in classes},
    )


def _durations() -> Json:
    return lines(
        "Duration",
        "From the head of a request to the last byte of its response. The dashed line is the "
        "objective for computed questions. If p50 and p99 are far apart, one kind of request is "
        "slow: see the next panel.",
        *(promql(quantile(at / 100, _SECONDS), f"p{at}") for at in (50, 95, 99)),
        unit="s",
        colors={"p50": GOOD, "p95": EVENTS, "p99": WARN},
        limit=slis.OBJECTIVE_S,
    )


def _duration_by_route() -> Json:
    return lines(
        "Duration by route, p95",
        "The 95th percentile by route shows which routes are slow.",
        promql(quantile(0.95, _SECONDS, "route"), "{{route}}"),
        unit="s",
    )


def _in_flight() -> Json:
    waiting = f"sum ({series('analytics_pool_waiting')})"
    return lines(
        "Concurrent requests",
        "Requests in progress, and those of them that wait for a connection. Both grow when "
        "answers become slow, long before requests are rejected.",
        promql(f"sum ({series('http_requests_in_flight')})", "in flight"),
        promql(waiting, "waiting"),
        unit="none",
        colors={"in flight": EVENTS, "waiting": WARN},
    )


def _questions() -> Json:
    return lines(
        "Computed questions",
        "Questions per second without a cached answer.",
        promql(rate(f"{_QUESTION}_count", "question"), "{{question}}"),
        unit="reqps",
        stacked=True,
    )


def _question_durations() -> Json:
    return lines(
        "Duration of computed questions, p95",
        "Including the wait for a connection. The dashed line is the objective.",
        promql(quantile(0.95, _QUESTION, "question"), "{{question}}"),
        unit="s",
        limit=slis.OBJECTIVE_S,
    )


def _plan_sources() -> Json:
    return bars(
        "Answered from",
        "Most answers come from rollups. Answers from events are as exact but slow: there are no "
        "rollups (not yet, or after a restore), or the range is within one slot of 15 minutes. "
        "Histories are always read from events.",
        promql(rate("analytics_plans_total", "source"), "{{source}}"),
        unit="reqps",
        colors={"rollups": EVENTS, "events": WARN},
    )


def _rows_read() -> Json:
    return lines(
        "Rows and events read",
        "Rollup rows and events read per second. Many events: the tail is long, or the edges of "
        "ranges are not on quarters of an hour.",
        promql(rate("analytics_rollup_rows_read_total"), "rows of rollups"),
        promql(rate("analytics_events_read_total"), "events"),
        unit="short",
        colors={"rows of rollups": EVENTS, "events": WARN},
    )


def _hit_rate() -> Json:
    served = rate(_CACHE, result="~hit|joined|stale")
    return lines(
        "Hit rate",
        "Share of questions answered without computing. It falls when callers use ever new ranges, "
        "or when Redis has too little memory.",
        promql(f"{or_zero(served)} / {rate(_CACHE)}", "hits"),
        unit="percentunit",
        colors={"hits": GOOD},
        max=1,
        calcs=("lastNotNull", "mean"),
    )


def _cache_results() -> Json:
    colors = {
        "hit": GOOD,
        "joined": "light-green",
        "refresh": EVENTS,
        "miss": USERS,
        "bypass": QUIET,
        "stale": WARN,
        "error": BAD,
    }
    return bars(
        "Questions by result",
        "hit: cached; joined: another request computed it; refresh: computed again before it "
        "expired; miss: computed; bypass: the caller sent no-cache; stale: an old answer while "
        "PostgreSQL is unreachable; error: Redis is unreachable.",
        promql(rate(_CACHE, "result"), "{{result}}"),
        unit="reqps",
        colors=colors,
    )


def _cache_errors() -> Json:
    errors = rate("analytics_cache_errors_total", "operation")
    return lines(
        "Redis errors",
        "Commands that failed or took longer than ANALYTICS_CACHE_TIMEOUT_S. `skipped` commands "
        "were not sent, since others had just failed. Questions are still answered: check Redis.",
        promql(or_none(errors, "operation"), "{{operation}}"),
        unit="ops",
        colors={"none": GOOD},
    )
