"""Measure how many uncached queries per second two workers answer, with wrk on the same cores."""

import statistics
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from bench.event_set import DAYS, START, user_at
from bench.fast_path import CONNECTIONS, ROUNDS, rate_of, wrk
from bench.serving import ROOT

_SCRIPT = str(ROOT / "bench/addresses.lua")
_RANGE_DAYS = 30
_USERS = 2_000


def question_rate(port: int, folder: Path) -> float:
    """The rate of totals, daily counts and top lists of each range of 30 days."""
    return _rate(port, folder, list(_ranges()))


def history_rate(port: int, folder: Path) -> float:
    """The rate of first history pages, of active and inactive users."""
    step = 7
    users = [user_at(rank * step) for rank in range(_USERS)]
    return _rate(port, folder, [f"/analytics/users/{user}/events" for user in users])


def _ranges() -> Iterator[str]:
    for day in range(DAYS - _RANGE_DAYS + 1):
        start = (START + timedelta(days=day)).date()
        parameters = f"start={start}&end={start + timedelta(days=_RANGE_DAYS)}"
        yield f"/analytics/event-counts?{parameters}"
        yield f"/analytics/event-counts?{parameters}&interval=day"
        yield f"/analytics/top-events?{parameters}"


def _rate(port: int, folder: Path, addresses: list[str]) -> float:
    file = folder / "addresses.txt"
    file.write_text("\n".join(addresses) + "\n")
    url = f"http://127.0.0.1:{port}/"
    more = ("--timeout", "60s", "-s", _SCRIPT)
    outputs = [wrk(url, CONNECTIONS, *more, ADDRESSES=str(file)) for _ in range(ROUNDS)]
    return statistics.median(map(rate_of, outputs))
