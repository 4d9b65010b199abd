"""Deprecated metric names: each has the samples of the metric that replaces it."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.registry import Collector

from common import metric_collector
from common.deprecated_metrics import DEPRECATED_METRICS, with_deprecated_name
from common.metric_collector import collect_registry
from common.metrics import REGISTRY


def text_of(*collectors: Counter | Gauge) -> list[str]:
    registry = CollectorRegistry()
    registry.register(_WithDeprecatedNames(collectors))
    return generate_latest(registry).decode().splitlines()


class _WithDeprecatedNames(Collector):
    def __init__(self, collectors: Iterable[Counter | Gauge]) -> None:
        self._collectors = collectors

    def collect(self) -> Iterator[Metric]:
        for collector in self._collectors:
            for metric in collector.collect():
                yield from with_deprecated_name(metric)


def test_a_gauge_is_repeated() -> None:
    gauge = Gauge("analytics_rollup_lag_events", "Events.", registry=None)
    gauge.set(41)
    assert text_of(gauge) == [
        "# HELP analytics_rollup_lag_events Events.",
        "# TYPE analytics_rollup_lag_events gauge",
        "analytics_rollup_lag_events 41.0",
        "# HELP analytics_tail_events Deprecated: use analytics_rollup_lag_events.",
        "# TYPE analytics_tail_events gauge",
        "analytics_tail_events 41.0",
    ]


def test_a_counter_is_repeated() -> None:
    counter = Counter("analytics_verify_differences", "Rows.", registry=None)
    counter.inc(3)
    assert text_of(counter)[3:] == [
        "# HELP analytics_drift_total Deprecated: use analytics_verify_differences_total.",
        "# TYPE analytics_drift_total counter",
        "analytics_drift_total 3.0",
    ]


def test_other_metrics_are_not_repeated() -> None:
    assert text_of(Gauge("analytics_up", "Up.", registry=None)) == [
        "# HELP analytics_up Up.",
        "# TYPE analytics_up gauge",
        "analytics_up 0.0",
    ]


@pytest.mark.parametrize(("old_name", "name"), DEPRECATED_METRICS.items())
def test_both_names_are_exported_with_equal_values(old_name: str, name: str) -> None:
    metrics = {metric.name: metric.samples for metric in collect_registry().collect()}
    assert [sample.value for sample in metrics[old_name]] == [
        sample.value for sample in metrics[name]
    ]
    assert len(metrics[name]) == 1


def test_sums_of_workers_are_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for slot, count in enumerate((2.0, 5.0)):
        file = MmapedDict(str(tmp_path / f"counter_{slot}.db"))  # type: ignore[no-untyped-call]
        name = "analytics_verify_differences"
        file.write_value(mmap_key(name, f"{name}_total", [], [], "Help."), count, 0.0)  # type: ignore[no-untyped-call]
        file.close()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(metric_collector, "shared_folder", lambda: tmp_path)
    monkeypatch.setattr(metric_collector, "workers", lambda _: {})
    samples = {metric.name: metric.samples for metric in collect_registry().collect()}
    assert [tuple(sample[:3]) for sample in samples["analytics_drift"]] == [
        ("analytics_drift_total", {}, 7.0)
    ]
    assert [sample.value for sample in samples["analytics_verify_differences"]] == [7.0]


def test_each_name_replaces_a_metric_that_exists() -> None:
    assert set(DEPRECATED_METRICS.values()) <= {metric.name for metric in REGISTRY.collect()}
