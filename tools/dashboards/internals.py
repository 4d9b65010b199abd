"""What the service is made of: connections, the folder, workers."""

from tools.dashboards.panels import BAD, EVENTS, GOOD, QUIET, USERS, WARN, bars, lines
from tools.dashboards.queries import Json, or_zero, promql, quantile, rate, series

_POOLS = {"questions": EVENTS, "events": USERS}


def connections() -> Json:
    in_use, size = (
        f"sum by (pool) ({series(f'analytics_pool_{name}')})" for name in ("in_use", "size")
    )
    return lines(
        "Connections in use",
        "Of those that questions (ANALYTICS_POOL_SIZE in each worker) and events "
        "(ANALYTICS_INGEST_POOL_SIZE) may have. At the dashed line all are lent, and requests "
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
        "How long a request waits on average. After ANALYTICS_ACQUIRE_TIMEOUT_S it is a 503: more "
        "connections or workers help as long as PostgreSQL has processors to spare.",
        promql(f"{seconds} / ({lent} > 0)", "{{pool}}"),
        unit="s",
        colors=_POOLS,
    )


def turned_away() -> Json:
    return bars(
        "Turned away",
        "No connection: none became free in time (503); deadline: PostgreSQL took longer than a "
        "request may (504); limit: more than ANALYTICS_RATE_LIMIT or ANALYTICS_AT_ONCE_LIMIT allow "
        "a key (429).",
        promql(rate("analytics_pool_busy_total"), "no connection"),
        promql(rate("analytics_pool_deadlines_total"), "deadline"),
        promql(or_zero(rate("analytics_limited_requests_total", limit="!unknown")), "limit"),
        unit="reqps",
        colors={"no connection": WARN, "deadline": BAD, "limit": QUIET},
    )


def replaced() -> Json:
    return bars(
        "Connections replaced",
        "Opened and given up a minute. Some are replaced for their age; many at once mean that "
        "PostgreSQL, or what is before it, ends them.",
        promql(f"60 * {rate('analytics_pool_opened_total')}", "opened"),
        promql(f"60 * {rate('analytics_pool_discarded_total')}", "given up"),
        unit="opm",
        colors={"opened": EVENTS, "given up": WARN},
    )


def fold_rate() -> Json:
    return lines(
        "Folded events",
        "Events a second that are counted into the rollups. It follows what comes in; a plateau "
        "while the tail grows is as fast as the folder can.",
        promql(rate("analytics_folded_events_total"), "folded"),
        unit="cps",
        colors={"folded": EVENTS},
    )


def fold_duration() -> Json:
    name = "analytics_fold_duration_seconds"
    return lines(
        "Duration of a fold",
        "Of one step of the folder, with the sealing of what is over.",
        *(promql(quantile(at / 100, name), f"p{at}") for at in (50, 95)),
        unit="s",
        colors={"p50": GOOD, "p95": EVENTS},
    )


def replica() -> Json:
    return lines(
        "Replica behind",
        "How far the replica that questions are asked of is behind; 0 without one. It answers as "
        "of what it has: if it stays behind, look at its network and at long questions there.",
        promql(f"max ({series('analytics_replay_age_seconds')})", "behind"),
        unit="s",
        colors={"behind": EVENTS},
    )


def memory() -> Json:
    return lines(
        "Memory by worker",
        "What each worker holds, and the folder, which counts as one of them. It should be flat, "
        "and under 200 MB.",
        promql(series("process_resident_memory_bytes"), "worker {{worker}} of {{instance}}"),
        unit="bytes",
        limit=200e6,
    )


def cpu() -> Json:
    seconds = series("process_cpu_seconds_total")
    return lines(
        "CPU by worker",
        "Processors that each worker uses: near 1 it has no more to give, and another worker "
        "(ANALYTICS_WORKERS) helps if the machine has processors left.",
        promql(f"rate({seconds}[$__rate_interval])", "worker {{worker}} of {{instance}}"),
        unit="percentunit",
        limit=1,
    )


def files() -> Json:
    return lines(
        "Open files by worker",
        "Sockets for the most part: callers, PostgreSQL, Redis. It must stay far below the limit "
        "of the process.",
        promql(series("process_open_fds"), "worker {{worker}} of {{instance}}"),
        unit="short",
    )
