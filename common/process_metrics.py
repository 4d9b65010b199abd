"""`process_*` of workers: memory, CPU and files of each."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric


def process_metrics(pids: dict[int, Any]) -> Iterator[Metric]:
    """`process_*` of each worker, which counts from nothing with a new process."""
    found: dict[str, Metric] = {}
    for place, pid in sorted(pids.items()):
        for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
            kept = found.setdefault(
                metric.name, Metric(metric.name, metric.documentation, metric.type)
            )
            for sample in metric.samples:
                kept.add_sample(sample.name, {"worker": str(place)}, sample.value)
    yield from found.values()
