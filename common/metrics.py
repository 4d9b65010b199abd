"""What `/metrics` shows. Labels come from bounded sets: never a path or a user.

In a service with workers all of them count in files of one folder, once `share_metrics` named it,
and any of them shows the sum.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    values,
)

from common.metric_values import Value

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each of ours
values.ValueClass = Value

REGISTRY = CollectorRegistry()

# The bounds that OpenTelemetry advises for HTTP, so that both can be drawn in one picture.
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(
    name: str,
    text: str,
    *labels: str,
    aggregation: Literal["livesum", "livemax", "livemin"] = "livesum",
) -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY, multiprocess_mode=aggregation)


def _histogram(name: str, text: str, *labels: str, bounds: tuple[float, ...]) -> Histogram:
    return Histogram(name, text, labels, buckets=bounds, registry=REGISTRY)


REQUESTS = _counter("http_requests", "Requests that were answered.", "method", "route", "status")
REQUEST_SECONDS = _histogram(
    "http_request_duration_seconds",
    "Seconds from the request's head to the answer's last byte.",
    "method",
    "route",
    bounds=_BOUNDS,
)
IN_FLIGHT = _gauge("http_requests_in_flight", "Requests that are being answered now.")
CONNECTIONS = _gauge("http_connections", "Connections of clients that are open now.")
QUESTION_SECONDS = _histogram(
    "analytics_question_duration_seconds",
    "Seconds a question took that was computed, waiting for a connection included, by what it was "
    "answered from: rollups, events, or none where there was no answer.",
    "question",
    "source",
    bounds=(0.001, 0.0025, *_BOUNDS),
)
CACHE_REQUESTS = _counter(
    "analytics_cache_requests",
    "Questions by what became of them: hit, miss, joined (computed for another one), stale, "
    "refresh (computed anew before its end), bypass (told not to look), error (no Redis).",
    "result",
)
CACHE_ERRORS = _counter(
    "analytics_cache_errors",
    "Redis commands that failed or took too long; skipped: not tried, since others just failed.",
    "operation",
)
CACHE_CLEARING_PENDING = _gauge(
    "analytics_cache_clearing_pending",
    "Whether Redis may hold answers about erased users: 1 until it is known that they are dropped.",
    aggregation="livemax",
)
LIMITED = _counter(
    "analytics_limited_requests",
    "Requests over a limit of their key: rate, at_once; unknown: let through, Redis being away.",
    "limit",
)
KEY_CHECKS = _counter(
    "analytics_key_checks",
    "Requests by what their key was: ok, none, unknown, or forbidden without the scope.",
    "result",
)

INGESTED = _counter(
    "analytics_ingested_events",
    "Events that were sent to POST /events: accepted, duplicate (their event_id was there), or "
    "refused, and with them the others of their request, or of suppressed users, and these alone.",
    "result",
)
INGEST_SECONDS = _histogram(
    "analytics_ingest_duration_seconds",
    "Seconds from the last byte of a batch to its commit, waiting for a connection included.",
    bounds=(0.001, 0.0025, *_BOUNDS),
)

PLANS = _counter(
    "analytics_plans",
    "Questions that were computed, by what from: rollups, or the events where there are none.",
    "question",
    "source",
)
ROLLUP_ROWS = _counter("analytics_rollup_rows_read", "Rows of rollups that were read.", "question")
ROLLUP_BYTES = _counter(
    "analytics_rollup_bytes_read", "Bytes of rollups that were read.", "question"
)
EVENTS_READ = _counter(
    "analytics_events_read",
    "Events that were read beside rollups: of edges and the tail.",
    "question",
)
TAIL_EVENTS = _gauge("analytics_tail_events", "Events that are not folded, up to a million.")
# The folder tells how long it has had some of them; workers, how long it has not been heard of.
TAIL_SECONDS = _gauge(
    "analytics_tail_seconds",
    "Seconds that events have waited to be folded, at most.",
    aggregation="livemax",
)
FOLD_SECONDS = _histogram(
    "analytics_fold_duration_seconds",
    "Seconds of one fold, with the sealing of spans that are over.",
    bounds=(*_BOUNDS, 30, 60),
)
FOLDED_EVENTS = _counter("analytics_folded_events", "Events that were folded.")
SEALED_SPANS = _counter("analytics_sealed_spans", "Spans that were sealed.")
REFUSED = _counter(
    "analytics_refused_events",
    "Events that were left out of the table they were put into: expired, being older than what "
    "is kept; suppressed, of a user who was erased.",
    "reason",
)
HORIZON = _gauge(
    "analytics_horizon_timestamp_seconds",
    "The moment before which events are dropped; 0: none is.",
)
REJECTED_ROWS = _gauge(
    "analytics_rejected_rows",
    "Rows of adopted tables that cannot be events, as far as they are remembered.",
    aggregation="livemax",
)
FAILED_DAYS = _gauge(
    "analytics_daily_statistics_failing",
    "Days of the daily statistics that failed, and are tried again.",
)
VERIFIED_ROWS = _counter(
    "analytics_verified_rows", "Rows of rollups that were compared with the events, in samples."
)
DRIFT = _counter("analytics_drift", "Rows of rollups that were not what the events say.")

EVENTS = _counter(
    "analytics_events",
    "Events that came in, counted when they are folded: by name those of ANALYTICS_METRIC_EVENTS, "
    "and the others as other.",
    "event_name",
)
ACTIVE_USERS = _gauge(
    "analytics_active_users",
    "Users who are active today, and within the 7 and the 30 days that end today.",
    "period",
    aggregation="livemax",
)

UP = _gauge(
    "analytics_up",
    "Whether all workers reach the server, and may ask it what they need.",
    "server",
    aggregation="livemin",
)
STORAGE_HEADROOM = _gauge(
    "analytics_storage_headroom_bytes",
    "Bytes until events are refused.",
    "limit",
    aggregation="livemin",
)
REPLAY_AGE = _gauge(
    "analytics_replay_age_seconds",
    "How old what questions see is at least: how far a replica is behind.",
    aggregation="livemax",
)

# A counter that begins with its first event looks as if there was none.
for _label in ("accepted", "duplicate", "refused"):
    INGESTED.labels(_label)
for _label in ("expired", "suppressed"):
    REFUSED.labels(_label)

# Children are kept: to find one by its labels takes longer than to count.
requests = cache(REQUESTS.labels)
request_seconds = cache(REQUEST_SECONDS.labels)
cache_requests = cache(CACHE_REQUESTS.labels)
key_checks = cache(KEY_CHECKS.labels)

POOL_COUNTERS = {
    name: _counter(f"analytics_pool_{name}", text, "pool")
    for name, text in {
        "acquired": "Connections that were lent.",
        "acquire_seconds": "Seconds spent waiting for a connection.",
        "busy": "Requests that no connection became free for in time.",
        "deadlines": "Requests whose deadline passed while PostgreSQL worked.",
        "opened": "Connections that were opened.",
        "discarded": "Connections that were closed since they were dead, broken or old.",
    }.items()
}
POOL_GAUGES = {
    name: _gauge(f"analytics_pool_{name}", text, "pool")
    for name, text in {
        "size": "Connections that the pools may hold.",
        "in_use": "Connections that are lent now.",
        "waiting": "Requests that wait for a connection now.",
    }.items()
}
GC_COUNTERS = {
    name: _counter(f"python_gc_{series}", text, "generation")
    for name, series, text in (
        ("collections", "collections", "Runs of the garbage collector."),
        ("collected", "objects_collected", "Objects that garbage collection freed."),
        (
            "uncollectable",
            "objects_uncollectable",
            "Objects that garbage collection could not free.",
        ),
    )
}


Server = Literal["postgresql", "redis"]

_IS_REACHABLE: dict[tuple[Server, str], bool] = {}


@contextmanager
def track_reachability(server: Server, purpose: str) -> Iterator[None]:
    """A try: what fails with an error did not reach it. All purposes must, for it to be up."""
    try:
        yield
    except Exception:
        _record(server, purpose, is_reachable=False)
        raise
    _record(server, purpose, is_reachable=True)


def _record(server: Server, purpose: str, *, is_reachable: bool) -> None:
    _IS_REACHABLE[server, purpose] = is_reachable
    UP.labels(server).set(
        all(
            is_up
            for (checked_server, _), is_up in _IS_REACHABLE.items()
            if checked_server == server
        )
    )
