"""The dashboard Analytics Data: ingestion, folding, verification and storage of events."""

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
        "Ingestion, folding, verification, storage and retention of events.",
        [
            top(_rate(), _refused(), _age(), _drift(), _size(), _horizon()),
            Section("Ingestion", [_ingested(), _batches(), _left_out(), _rejected()]),
            Section(
                "Folding", [internals.fold_rate(), _waiting(), internals.fold_duration(), _sealed()]
            ),
            Section(
                "Columns",
                [_column_lag(), _column_backfill(), _column_writes(), _column_cache()],
            ),
            Section(
                "Verification",
                [_verified(), _differences(), _daily_statistics()],
                widths=(6, 6, 12),
            ),
            Section("Disk", [_tables()]),
        ],
        last="now-6h",
        refresh="30s",
        variables=[INSTANCE],
    )


def _rate() -> Json:
    return stat(
        "Events in",
        "Events per second added to the rollups, from any source: HTTP, load, or other inserts.",
        promql(rate(_FOLDED)),
        unit="cps",
    )


def _refused() -> Json:
    refused = or_zero(rate(_INGESTED, result="refused"))
    return stat(
        "Refused",
        "Share of events sent to POST /events that were rejected, including valid ones in the same "
        "request. The responses name the reasons.",
        promql(f"{refused} / ({rate(_INGESTED)} > 0)"),
        unit="percentunit",
        color=GOOD,
        steps=[(0.001, WARN), (0.05, BAD)],
        noValue="none sent",
    )


def _age() -> Json:
    return stat(
        "Age of the tail",
        "How long the oldest event has waited to be folded. The objective is 10 s: above it, the "
        "rollup worker is stopped (is `serve` or `rollup` running?) or cannot keep up.",
        promql("analytics:rollup_lag_seconds:max"),
        unit="s",
        color=GOOD,
        steps=[(5, WARN), (10, BAD)],
    )


def _drift() -> Json:
    drift = f"sum ({series('analytics_verify_differences_total')})"
    return stat(
        "Rows that differ",
        "Rollup rows that differed from the events, since the start. If not 0, run `python main.py "
        "verify` and then `python main.py rollup --rebuild`.",
        promql(drift),
        unit="none",
        color=GOOD,
        steps=[(1, BAD)],
        spark=False,
    )


def _size() -> Json:
    return stat(
        "On disk",
        "Events, rollups, columns and daily statistics with their indexes; other tables are small. "
        "Drop old events with `retain` before the disk is full.",
        sql(SQL["data_size"]),
        unit="bytes",
        spark=False,
    )


def _horizon() -> Json:
    horizon = f"max ({series('analytics_horizon_timestamp_seconds')})"
    return stat(
        "Events are kept since",
        "Older events were dropped by `retain`. Their counts are kept, their histories are not.",
        promql(f"1000 * ({horizon} > 0)"),
        unit="dateTimeAsIso",
        spark=False,
        noValue="ever",
    )


def _ingested() -> Json:
    return bars(
        "Events by HTTP",
        "Events in POST /events: stored (accepted), already present (duplicate) or rejected "
        "(refused). Many duplicates: a sender repeats requests that were answered.",
        promql(rate(_INGESTED, "result"), "{{result}}"),
        unit="cps",
        colors={"accepted": GOOD, "duplicate": QUIET, "refused": BAD},
    )


def _batches() -> Json:
    name = "analytics_ingest_duration_seconds"
    return lines(
        "Duration of a batch",
        "Time from the last byte of a request to its commit. It grows with the size of batches, "
        "and when writers wait for each other or for the disk.",
        *(promql(quantile(at / 100, name), f"p{at}") for at in (50, 95, 99)),
        unit="s",
        colors={"p50": GOOD, "p95": EVENTS, "p99": WARN},
    )


def _left_out() -> Json:
    return bars(
        "Left out",
        "Inserted events that triggers left out: expired events are older than the horizon, "
        "suppressed ones belong to erased users. A sender still sends unwanted events.",
        promql(rate("analytics_refused_events_total", "reason"), "{{reason}}"),
        unit="cps",
        colors={"expired": WARN, "suppressed": USERS},
    )


def _rejected() -> Json:
    return lines(
        "Rejected rows",
        "Rows of adopted tables that cannot be events, as far as `rejected_rows` holds them, with "
        "the reasons. Correct them there, or ignore them.",
        promql(f"max ({series('analytics_rejected_rows')})", "rejected"),
        unit="short",
        colors={"rejected": WARN},
    )


def _waiting() -> Json:
    return lines(
        "Tail",
        "Events that are not folded, up to a million. Each question reads them, so a large number "
        "slows answers down; they stay exact.",
        promql(f"max ({series('analytics_rollup_lag_events')})", "events"),
        unit="short",
        colors={"events": WARN},
    )


def _sealed() -> Json:
    sealed = f"sum (increase({series('analytics_sealed_spans_total')}[$__rate_interval]))"
    return bars(
        "Sealed spans",
        "Hours, days and months that were sealed, with one row per event name: one per hour, and "
        "several at midnight.",
        promql(sealed, "sealed"),
        unit="short",
        colors={"sealed": EVENTS},
    )


def _column_lag() -> Json:
    return lines(
        "Not in columns yet",
        "Folded events that are not written to columns, up to a million. Filters read them from "
        "the events; from 100,000 on in their range they are refused. Usually below 1,000.",
        promql(f"max ({series('analytics_column_lag_events')})", "events"),
        unit="short",
        colors={"events": WARN},
    )


def _column_backfill() -> Json:
    return lines(
        "Backfill of columns",
        "About the number of existing events that are still to be written to columns, the latest "
        "first. Until it is 0, filters on early ranges may be refused (`columns-building`).",
        promql(f"max ({series('analytics_column_backfill_events')})", "to write"),
        unit="short",
        colors={"to write": USERS},
    )


def _column_writes() -> Json:
    return lines(
        "Written to columns",
        "Events written to columns per second. The rate follows that of the folds, in steps: new "
        "events are written when there are 1,000, or after 60 s.",
        promql(rate("analytics_column_written_events_total"), "written"),
        unit="cps",
        colors={"written": EVENTS},
    )


def _column_cache() -> Json:
    hits = rate("analytics_column_cache_columns_total", result="hit")
    return lines(
        "Cached columns",
        "Share of the columns that filters needed which was cached. Below 0.9 in steady use: raise "
        "ANALYTICS_COLUMN_CACHE_MB.",
        promql(
            f"{hits} / ({rate('analytics_column_cache_columns_total')} > 0)",
            "hits",
        ),
        unit="percentunit",
        colors={"hits": GOOD},
        max=1,
    )


def _verified() -> Json:
    return lines(
        "Verified rows",
        "Rollup rows per minute that the rollup worker compares with the events: a random hour "
        "every 15 s. At 0 nothing is verified: the rollup worker is stopped, or there are no old "
        "events.",
        promql(f"60 * {rate('analytics_verified_rows_total')}", "verified"),
        unit="cpm",
        colors={"verified": GOOD},
    )


def _differences() -> Json:
    drift = f"sum (increase({series('analytics_verify_differences_total')}[$__rate_interval]))"
    return bars(
        "Rows that differ",
        "Differences by time. Each is a log line that names the row.",
        promql(drift, "differ"),
        unit="short",
        colors={"differ": BAD},
    )


def _daily_statistics() -> Json:
    return table(
        "Daily statistics",
        "The days of each declared zone that the dashboard Analytics reads, and when the last of "
        "them was computed. Today is recomputed within seconds of new events.",
        sql(SQL["data_daily_stats"]),
        unit="none",
        units={"Counted": "dateTimeFromNow"},
    )


def _tables() -> Json:
    return table(
        "Tables",
        "Bytes of each table and of its indexes. Most are events, which grow with their number; "
        "rollups grow with the users and event names per slot.",
        sql(SQL["data_tables"]),
        unit="bytes",
        gauges=["Together"],
    )
