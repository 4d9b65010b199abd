"""Collect the current metrics of this process, or the totals of all worker processes."""

import math
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

import common.process_metrics  # noqa: F401  (it sets its metric when it is imported)
from common.deprecated_metrics import with_deprecated_name
from common.key_metrics import is_shown
from common.metric_values import LIVE_GAUGES, shared_folder
from common.metrics import REGISTRY
from common.process_metrics import process_metrics
from config.worker_slots import workers

_PUBLISHERS: set[Callable[[], None]] = set()


@contextmanager
def publishing(publish: Callable[[], None]) -> Iterator[None]:
    """Call `publish` before each collection, and once more at the end of the block."""
    _PUBLISHERS.add(publish)
    try:
        yield
    finally:
        publish()
        _PUBLISHERS.remove(publish)


def collect_registry() -> CollectorRegistry:
    """Return a registry with the current metrics of all workers."""
    # A copy, since other threads may add or remove publishers meanwhile.
    for publish in list(_PUBLISHERS):
        publish()
    registry = CollectorRegistry()
    registry.register(_AllMetrics())
    return registry


class _AllMetrics(Collector):
    def collect(self) -> Iterator[Metric]:
        for metric in self._all_metrics():
            metric.samples = [
                sample
                for sample in metric.samples
                # NaN marks a value that is not known.
                if not math.isnan(sample.value) and is_shown(sample.name, sample.labels)
            ]
            yield from with_deprecated_name(metric)

    def _all_metrics(self) -> Iterator[Metric]:
        folder = shared_folder()
        if folder is None:  # a single process without files, such as a command
            yield from REGISTRY.collect()
            yield from process_metrics({0: "self"})
            return
        alive = workers(folder)
        live_files = [str(file) for file in folder.glob("*.db") if _is_live(file, alive)]
        yield from MultiProcessCollector.merge(live_files)  # type: ignore[no-untyped-call]
        yield from process_metrics(alive)


def _is_live(file: Path, alive: Container[int]) -> bool:
    """Return whether a file still counts: a live gauge does only as long as its worker runs."""
    slot = int(file.stem.rsplit("_", 1)[1])
    return slot in alive or not file.match(LIVE_GAUGES.format(slot))
