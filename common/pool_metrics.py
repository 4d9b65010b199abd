"""Publish the statistics of connection pools and of the garbage collector as metrics."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from common.metric_collector import publishing
from common.metrics import GC_COUNTERS, POOL_COUNTERS, POOL_GAUGES
from config.database import Database

Pool = Literal["questions", "events"]


class DeltaPublisher:
    """Increases counters by the difference from the total that was last published."""

    def __init__(self) -> None:
        self._published: dict[object, float] = {}
        self._lock = threading.Lock()

    def __call__(self, counter: Any, name: object, total: float) -> None:
        with self._lock:
            counter.inc(total - self._published.get(name, 0))
            self._published[name] = total


# One for all pools, since a process has one garbage collector.
_publish_gc_delta = DeltaPublisher()


def publish_gc() -> None:
    for generation, stats in enumerate(gc.get_stats()):
        for name, counter in GC_COUNTERS.items():
            _publish_gc_delta(counter.labels(generation), (name, generation), stats[name])


@contextmanager
def publish_pool(database: Database, pool: Pool) -> Iterator[Callable[[], None]]:
    """Publish the statistics of a pool while it is open; yield a function that does so at once."""
    stats, publish_delta = database.stats, DeltaPublisher()

    def publish() -> None:
        for name, gauge in POOL_GAUGES.items():
            gauge.labels(pool).set(getattr(stats, name))
        for name, counter in POOL_COUNTERS.items():
            publish_delta(counter.labels(pool), name, getattr(stats, name))
        publish_gc()

    with publishing(publish):
        yield publish
