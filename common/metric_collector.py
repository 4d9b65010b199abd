"""All metrics as they are now: of this process, or the sums of all workers."""

import math
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

import common.process_metrics  # noqa: F401  (it sets its metric when it is imported)
from common.key_metrics import is_shown
from common.metric_values import LIVE_GAUGES, shared_folder
from common.metrics import REGISTRY
from common.process_metrics import process_metrics
from config.worker_slots import workers

_PUBLISHERS: set[Callable[[], None]] = set()


@contextmanager
def publishing(publish: Callable[[], None]) -> Iterator[None]:
    """Call this whenever somebody looks, and once more at the end of the block."""
    _PUBLISHERS.add(publish)
    try:
        yield
    finally:
        publish()
        _PUBLISHERS.remove(publish)


def collect_registry() -> CollectorRegistry:
    """All metrics of all workers, as they are now."""
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
                if not math.isnan(sample.value) and is_shown(sample.name, sample.labels)
            ]
            yield metric

    def _all_metrics(self) -> Iterator[Metric]:
        folder = shared_folder()
        if folder is None:
            yield from REGISTRY.collect()
            yield from process_metrics({0: "self"})
            return
        alive = workers(folder)
        live_files = [str(file) for file in folder.glob("*.db") if _is_live(file, alive)]
        yield from MultiProcessCollector.merge(live_files)  # type: ignore[no-untyped-call]
        yield from process_metrics(alive)


def _is_live(file: Path, alive: Container[int]) -> bool:
    """What was so while another worker lived is so no more."""
    slot = int(file.stem.rsplit("_", 1)[1])
    return slot in alive or not file.match(LIVE_GAUGES.format(slot))
