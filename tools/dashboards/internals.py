"""Panels of the internals of the service: connections, rollup worker, worker processes."""

from tools.dashboards.panels import BAD, EVENTS, GOOD, QUIET, USERS, WARN, bars, lines
from tools.dashboards.queries import Json, or_zero, promql, quantile, rate, series

_POOLS = {"questions": EVENTS, "events": USERS}


def connections() -> Json:
    in_use, size = (
        f"sum by (pool) ({series(f'analytics_pool_{name}')})" for name in ("in_use", "size")
    )
    return lines(
        "Connections in use",
        "Connections in use, of those for questions (ANALYTICS_POOL_SIZE per worker) and for "
        "events (ANALYTICS_INGEST_POOL_SIZE). At the dashed line all are in use, and requests "
        "wait.",
        promql(f"{in_use} / {size}", "{{pool}}"),
        unit="percentunit",
        colors=_POOLS,
        limit=1,
        max=1.05,
    )


def waiting() -> Json:
    seconds = rate("analytics_pool_acquire_seconds_total", "pool")
    lent = rate("analytics_pool_acquired_total", "pool")
    return lines(
        "Waiting for a connection",
        "The average wait of a request for a connection. After ANALYTICS_ACQUIRE_TIMEOUT_S it is a "
        "503: more connections or workers help as long as PostgreSQL has free processors.",
        promql(f"{seconds} / ({lent} > 0)", "{{pool}}"),
        unit="s",
        colors=_POOLS,
    )


def rejected() -> Json:
    return bars(
        "Rejected requests",
        "No connection: none became free in time (503); deadline: PostgreSQL took longer than a "
        "request may (504); limit: the key exceeded ANALYTICS_RATE_LIMIT or "
        "ANALYTICS_CONCURRENCY_LIMIT (429).",
        promql(rate("analytics_pool_busy_total"), "no connection"),
        promql(rate("analytics_pool_deadlines_total"), "deadline"),
        promql(or_zero(rate("analytics_limited_requests_total", limit="!unknown")), "limit"),
        unit="reqps",
        colors={"no connection": WARN, "deadline": BAD, "limit": QUIET},
    )


def replaced() -> Json:
    return bars(
        "Connections replaced",
        "Connections opened and closed per minute. Some are replaced because of their age; many at "
        "once mean that PostgreSQL, or a proxy before it, closes them.",
        promql(f"60 * {rate('analytics_pool_opened_total')}", "opened"),
        promql(f"60 * {rate('analytics_pool_discarded_total')}", "closed"),
        unit="opm",
        colors={"opened": EVENTS, "closed": WARN},
    )


def fold_rate() -> Json:
    return lines(
        "Folded events",
        "Events folded into the rollups per second. The rate follows ingestion; a plateau while "
        "the tail grows is the maximum of the rollup worker.",
        promql(rate("analytics_folded_events_total"), "folded"),
        unit="cps",
        colors={"folded": EVENTS},
    )


def fold_duration() -> Json:
    name = "analytics_fold_duration_seconds"
    return lines(
        "Duration of a fold",
        "Duration of one step of the rollup worker, including sealing.",
        *(promql(quantile(at / 100, name), f"p{at}") for at in (50, 95)),
        unit="s",
        colors={"p50": GOOD, "p95": EVENTS},
    )


def replica() -> Json:
    return lines(
        "Replica behind",
        "How far the replica that answers questions lags; 0 without a replica. Its answers are "
        "exact as of that time. If it keeps lagging, check its network and long-running queries "
        "there.",
        promql(f"max ({series('analytics_replica_lag_seconds')})", "behind"),
        unit="s",
        colors={"behind": EVENTS},
    )


def memory() -> Json:
    return lines(
        "Memory by worker",
        "Resident memory of each worker process, and of the rollup worker, which has a slot of its "
        "own. It should be flat, and under 200 MB.",
        promql(series("process_resident_memory_bytes"), "worker {{worker}} of {{instance}}"),
        unit="bytes",
        limit=200e6,
    )


def cpu() -> Json:
    seconds = series("process_cpu_seconds_total")
    return lines(
        "CPU by worker",
        "Processors that each worker process uses. Near 1 it is saturated, and another worker "
        "(ANALYTICS_WORKERS) helps if the machine has free processors.",
        promql(f"rate({seconds}[$__rate_interval])", "worker {{worker}} of {{instance}}"),
        unit="percentunit",
        limit=1,
    )


def files() -> Json:
    return lines(
        "Open files by worker",
        "Open files, mostly sockets: clients, PostgreSQL, Redis. The number must stay far below "
        "the limit of the process.",
        promql(series("process_open_fds"), "worker {{worker}} of {{instance}}"),
        unit="short",
    )
