"""Is the data well? From an event's coming in to the disk that it takes."""

from tools.dashboards import internals
from tools.dashboards.dashboard import INSTANCE, Section, board, top
from tools.dashboards.panels import BAD, EVENTS, GOOD, QUIET, USERS, WARN, bars, lines, stat, table
from tools.dashboards.queries import Json, or_zero, promql, quantile, rate, series, sql, statements

SQL = statements("data")

_INGESTED = "analytics_ingested_events_total"
_FOLDED = "analytics_folded_events_total"


def dashboard() -> Json:
    return board(
        "analytics-data",
        "Analytics Data",
        "How events come in, are folded, verified, kept and dropped.",
        [
            top(_rate(), _refused(), _age(), _drift(), _size(), _horizon()),
            Section("Coming in", [_ingested(), _batches(), _left_out(), _rejected()]),
            Section(
                "Folding", [internals.fold_rate(), _waiting(), internals.fold_duration(), _sealed()]
            ),
            Section("Verification", [_verified(), _differences(), _numbers()], widths=(6, 6, 12)),
            Section("Disk", [_tables()]),
        ],
        last="now-6h",
        refresh="30s",
        variables=[INSTANCE],
    )


def _rate() -> Json:
    return stat(
        "Events in",
        "Events a second that became part of the rollups, whichever way they came: HTTP, load, or "
        "whatever else inserts rows.",
        promql(rate(_FOLDED)),
        unit="cps",
    )


def _refused() -> Json:
    refused = or_zero(rate(_INGESTED, result="refused"))
    return stat(
        "Refused",
        "Share of the events sent to POST /events that were refused, with the others of their "
        "request. The answers tell their senders why.",
        promql(f"{refused} / ({rate(_INGESTED)} > 0)"),
        unit="percentunit",
        color=GOOD,
        steps=[(0.001, WARN), (0.05, BAD)],
        noValue="none sent",
    )


def _age() -> Json:
    return stat(
        "Age of the tail",
        "How long the oldest event has waited to be folded. The objective is 10 s: beyond it the "
        "folder stands still (is `serve` or `rollup` running?) or cannot keep up.",
        promql("analytics:tail_seconds:max"),
        unit="s",
        color=GOOD,
        steps=[(5, WARN), (10, BAD)],
    )


def _drift() -> Json:
    drift = f"sum ({series('analytics_drift_total')})"
    return stat(
        "Rows that differ",
        "Rows of rollups that were not what the events say, since the start. Anything but 0: run "
        "`python main.py verify`, and then `python main.py rollup --rebuild`.",
        promql(drift),
        unit="none",
        color=GOOD,
        steps=[(1, BAD)],
        spark=False,
    )


def _size() -> Json:
    return stat(
        "On disk",
        "Events, rollups and numbers with their indexes; other tables are small. Drop old events "
        "with `retain` before the disk is full.",
        sql(SQL["data_size"]),
        unit="bytes",
        spark=False,
    )


def _horizon() -> Json:
    horizon = f"max ({series('analytics_horizon_timestamp_seconds')})"
    return stat(
        "Events are kept since",
        "Older events were dropped by `retain`; they stay counted, and their histories are gone.",
        promql(f"1000 * ({horizon} > 0)"),
        unit="dateTimeAsIso",
        spark=False,
        noValue="ever",
    )


def _ingested() -> Json:
    return bars(
        "Events by HTTP",
        "What POST /events stored (accepted), had already (duplicate), and could not take "
        "(refused). Many duplicates: a sender repeats what was answered.",
        promql(rate(_INGESTED, "result"), "{{result}}"),
        unit="cps",
        colors={"accepted": GOOD, "duplicate": QUIET, "refused": BAD},
    )


def _batches() -> Json:
    name = "analytics_ingest_duration_seconds"
    return lines(
        "Duration of a batch",
        "From its last byte to its commit. It grows with the size of batches, and when writers "
        "wait for each other or for the disk.",
        *(promql(quantile(at / 100, name), f"p{at}") for at in (50, 95, 99)),
        unit="s",
        colors={"p50": GOOD, "p95": EVENTS, "p99": WARN},
    )


def _left_out() -> Json:
    return bars(
        "Left out",
        "Events that were inserted and left out: expired are older than what is kept, suppressed "
        "are of users who were erased. Somebody sends what is not wanted any more.",
        promql(rate("analytics_refused_events_total", "reason"), "{{reason}}"),
        unit="cps",
        colors={"expired": WARN, "suppressed": USERS},
    )


def _rejected() -> Json:
    return lines(
        "Rows that are no events",
        "Rows of adopted tables that cannot be events, as far as they are remembered in "
        "`rejected_rows`, which tells why. Mend them there, or leave them out.",
        promql(f"max ({series('analytics_rejected_rows')})", "rejected"),
        unit="short",
        colors={"rejected": WARN},
    )


def _waiting() -> Json:
    return lines(
        "Tail",
        "Events that are not folded, up to a million. Questions read each of them, so many make "
        "questions slow, and never wrong.",
        promql(f"max ({series('analytics_tail_events')})", "events"),
        unit="short",
        colors={"events": WARN},
    )


def _sealed() -> Json:
    sealed = f"sum (increase({series('analytics_sealed_spans_total')}[$__rate_interval]))"
    return bars(
        "Sealed spans",
        "Hours, days and months that were over and are now kept as one row for each name: one an "
        "hour, and some more at midnight.",
        promql(sealed, "sealed"),
        unit="short",
        colors={"sealed": EVENTS},
    )


def _verified() -> Json:
    return lines(
        "Verified rows",
        "Rows of rollups a minute that the folder compares with the events, a random hour every "
        "15 s. At 0 nothing is watched: the folder stands still, or there are no old events.",
        promql(f"60 * {rate('analytics_verified_rows_total')}", "verified"),
        unit="cpm",
        colors={"verified": GOOD},
    )


def _differences() -> Json:
    drift = f"sum (increase({series('analytics_drift_total')}[$__rate_interval]))"
    return bars(
        "Rows that differ",
        "When differences were found. Each is a line in the log, which tells the row.",
        promql(drift, "differ"),
        unit="short",
        colors={"differ": BAD},
    )


def _numbers() -> Json:
    return table(
        "Numbers for SQL readers",
        "What the dashboard Analytics reads: the days of each declared zone, and when the last of "
        "them was counted. Today is counted anew within seconds when events come in.",
        sql(SQL["data_daily_stats"]),
        unit="none",
        units={"Counted": "dateTimeFromNow"},
    )


def _tables() -> Json:
    return table(
        "Tables",
        "Bytes of each table and of its indexes. Events are nearly all, and grow with their "
        "number; rollups grow with the users and names of each quarter of an hour.",
        sql(SQL["data_tables"]),
        unit="bytes",
        gauges=["Together"],
    )
