"""Metrics of processes: memory, CPU and files of each worker, and the versions of the service."""

import platform
from collections.abc import Iterator
from functools import partial
from typing import Any

from prometheus_client import Gauge, ProcessCollector
from prometheus_client.core import Metric

from common.metrics import REGISTRY
from utils.postgres import libpq_version
from utils.version import version


def process_metrics(pids: dict[int, Any]) -> Iterator[Metric]:
    """Yield the metrics `process_*` of each worker, labelled by its slot."""
    merged_metrics: dict[str, Metric] = {}
    # By slot rather than pid, so that restarts of workers do not add series.
    for slot, pid in sorted(pids.items()):
        for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
            merged = merged_metrics.setdefault(
                metric.name, Metric(metric.name, metric.documentation, metric.type)
            )
            for sample in metric.samples:
                merged.add_sample(sample.name, {"worker": str(slot)}, sample.value)
    yield from merged_metrics.values()


BUILD_INFO = Gauge(
    "analytics_build_info",
    "1, with the versions of the service, of Python and of libpq, PostgreSQL's client library.",
    ("version", "python", "libpq"),
    registry=REGISTRY,
    multiprocess_mode="livemax",  # the value stays 1 with several workers
)
BUILD_INFO.labels(version(), platform.python_version(), libpq_version()).set(1)
