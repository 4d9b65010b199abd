"""Collection of metrics in a process without files."""

import math

from prometheus_client import generate_latest

from common.metric_collector import collect_registry, publishing
from common.metrics import IN_FLIGHT

NAME = IN_FLIGHT._name


def test_a_collection_calls_the_publishers_before() -> None:
    calls = []
    with publishing(lambda: calls.append("published")):
        collect_registry()
        assert calls == ["published"]
    assert calls == ["published", "published"]
    collect_registry()
    assert calls == ["published", "published"]


def test_a_collection_has_the_current_values() -> None:
    IN_FLIGHT.set(7)
    assert collect_registry().get_sample_value(NAME) == 7
    IN_FLIGHT.set(0)


def test_unknown_values_are_left_out() -> None:
    IN_FLIGHT.set(math.nan)
    assert collect_registry().get_sample_value(NAME) is None
    IN_FLIGHT.set(0)
    assert f"\n{NAME} 0.0\n".encode() in generate_latest(collect_registry())
