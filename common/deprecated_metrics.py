"""Metric names of earlier releases, which `/metrics` repeats for one more release."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import Metric

DEPRECATED_METRICS: Mapping[str, str] = {
    "analytics_tail_events": "analytics_rollup_lag_events",
    "analytics_tail_seconds": "analytics_rollup_lag_seconds",
    "analytics_drift": "analytics_verify_differences",
    "analytics_replay_age_seconds": "analytics_replica_lag_seconds",
}
"""The metric that each deprecated name repeats; counters without their suffix `_total`."""

_OLD_NAMES = {name: old_name for old_name, name in DEPRECATED_METRICS.items()}


def with_deprecated_name(metric: Metric) -> Iterator[Metric]:
    """Yield the metric, and a copy under its deprecated name if it has one."""
    yield metric
    if old_name := _OLD_NAMES.get(metric.name):
        yield _renamed(metric, old_name)


def _renamed(metric: Metric, name: str) -> Metric:
    suffix = "_total" if metric.type == "counter" else ""
    copy = Metric(name, f"Deprecated: use {metric.name}{suffix}.", metric.type)
    copy.samples = [
        sample._replace(name=name + sample.name.removeprefix(metric.name))
        for sample in metric.samples
    ]
    return copy
