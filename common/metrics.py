"""What `/metrics` shows. Labels come from bounded sets: never a path, a user or an event name."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import REGISTRY, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config.database import Database

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each of ours

# The bounds that OpenTelemetry advises for HTTP, so that both can be drawn in one picture.
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

REQUESTS = Counter("http_requests", "Requests that were answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "http_request_duration_seconds",
    "Seconds from the request's head to the answer's last byte.",
    ["method", "route"],
    buckets=_BOUNDS,
)
QUESTION_SECONDS = Histogram(
    "analytics_question_duration_seconds",
    "Seconds a question took that the cache did not answer, waiting for a connection included.",
    ["question"],
    buckets=(0.001, 0.0025, *_BOUNDS),
)
CACHE_REQUESTS = Counter(
    "analytics_cache_requests",
    "Questions by what the cache said: hit, miss, error, or bypass when told not to look.",
    ["result"],
)
CACHE_ERRORS = Counter(
    "analytics_cache_errors", "Redis commands that failed or took too long.", ["operation"]
)

_POOL_COUNTERS = {
    "acquired": "Connections that were lent.",
    "acquire_seconds": "Seconds spent waiting for a connection.",
    "busy": "Requests that no connection became free for in time.",
    "deadlines": "Requests whose deadline passed while PostgreSQL worked.",
    "opened": "Connections that were opened.",
    "discarded": "Connections that were closed since they could not be used again.",
}


_POOL_GAUGES = {
    "size": "Connections that the pool may hold.",
    "in_use": "Connections that are lent now.",
    "waiting": "Requests that wait for a connection now.",
}


class _Pools(Collector):
    """Publishes what the open pools count for themselves; a process has one."""

    def __init__(self) -> None:
        self.open: set[Database] = set()

    def collect(self) -> Iterator[Metric]:
        for name, text in _POOL_GAUGES.items():
            yield GaugeMetricFamily(f"analytics_pool_{name}", text, value=self._sum(name))
        for name, text in _POOL_COUNTERS.items():
            yield CounterMetricFamily(f"analytics_pool_{name}", text, value=self._sum(name))

    def _sum(self, name: str) -> float:
        return float(sum(getattr(database.stats, name) for database in self.open))


_POOLS = _Pools()
REGISTRY.register(_POOLS)


@contextmanager
def published(database: Database) -> Iterator[None]:
    """Show the pool's numbers for as long as it is open."""
    _POOLS.open.add(database)
    try:
        yield
    finally:
        _POOLS.open.remove(database)
