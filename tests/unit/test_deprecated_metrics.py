"""Deprecated metric names: each has the samples of the metric that replaces it."""

import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from common import metric_collector
from common.deprecated_metrics import DEPRECATED_METRICS
from common.metric_collector import collect_registry
from common.metrics import (
    REGISTRY,
    REPLICA_LAG_SECONDS,
    ROLLUP_LAG_EVENTS,
    ROLLUP_LAG_SECONDS,
    VERIFY_DIFFERENCES,
)


def lines_of(name: str) -> list[str]:
    text = generate_latest(collect_registry()).decode()
    is_of_name = re.compile(rf"(# \w+ )?{name} ").match
    return [line for line in text.splitlines() if is_of_name(line)]


def test_a_gauge_is_repeated() -> None:
    ROLLUP_LAG_EVENTS.set(41)
    ROLLUP_LAG_SECONDS.set(2.5)
    REPLICA_LAG_SECONDS.set(7)
    assert lines_of("analytics_tail_events") == [
        "# HELP analytics_tail_events Deprecated: use analytics_rollup_lag_events.",
        "# TYPE analytics_tail_events gauge",
        "analytics_tail_events 41.0",
    ]
    assert lines_of("analytics_rollup_lag_events")[-1] == "analytics_rollup_lag_events 41.0"
    assert lines_of("analytics_tail_seconds")[-1] == "analytics_tail_seconds 2.5"
    assert lines_of("analytics_replay_age_seconds")[-1] == "analytics_replay_age_seconds 7.0"


def test_a_counter_is_repeated() -> None:
    VERIFY_DIFFERENCES.inc(3)
    total = VERIFY_DIFFERENCES._value.get()
    assert lines_of("analytics_drift_total") == [
        "# HELP analytics_drift_total Deprecated: use analytics_verify_differences_total.",
        "# TYPE analytics_drift_total counter",
        f"analytics_drift_total {total}",
    ]


def test_sums_of_workers_are_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for slot, count in enumerate((2.0, 5.0)):
        file = MmapedDict(str(tmp_path / f"counter_{slot}.db"))  # type: ignore[no-untyped-call]
        name = "analytics_verify_differences"
        file.write_value(mmap_key(name, f"{name}_total", [], [], "Help."), count, 0.0)  # type: ignore[no-untyped-call]
        file.close()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(metric_collector, "shared_folder", lambda: tmp_path)
    monkeypatch.setattr(metric_collector, "workers", lambda _: {})
    assert lines_of("analytics_verify_differences_total")[-1].endswith("_total 7.0")
    assert lines_of("analytics_drift_total")[-1] == "analytics_drift_total 7.0"


def test_each_name_replaces_a_metric_that_exists() -> None:
    assert set(DEPRECATED_METRICS.values()) <= {metric.name for metric in REGISTRY.collect()}
