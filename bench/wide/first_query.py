"""Time the first query of a new process, which holds nothing in memory but its code.

The caches of PostgreSQL and of the operating system stay as they are. PostgreSQL is not asked by
itself: a new connection is as fast as an old one.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import msgspec

from bench.in_process import in_process
from bench.rounds import timed
from bench.serving import ROOT, serving
from bench.stored_set import Stores
from bench.wide.cases import WideCase, wide_cases
from bench.wide.systems import (
    WideChDb,
    WideDuckDb,
    WideInProcess,
    WideService,
    WideSystem,
)

_SETTLE_S = 2
"""Until all processes of the service have started, which share the cores."""


class FirstQuery(msgspec.Struct, frozen=True):
    """The time of a query in ms, and its answer."""

    system: str
    ms: float
    answer: list[int]


class Location(msgspec.Struct, frozen=True):
    """The addresses of the systems, and the case of a question to measure."""

    url: str
    redis_url: str
    duckdb: str
    chdb: str
    question: str
    number: int

    @property
    def case(self) -> WideCase:
        return next(islice(wide_cases(self.question), self.number, None))


def first_queries(stores: Stores, url: str, question: str, number: int) -> list[FirstQuery]:
    """Start all systems, ask each the case of this number, and stop them."""
    redis_url = stores.endpoints.redis_url
    files = str(stores.duckdb), str(stores.chdb)
    location = Location(url, redis_url, *files, question, number)
    with serving(url, redis_url, stores.folder / "first-query.log") as port:
        service = WideService(port)
        service.ask_without_filter()
        time.sleep(_SETTLE_S)
        first = _ask(service, location.case)
    process = subprocess.run(
        [sys.executable, "-m", "bench.wide.first_query"],
        input=msgspec.json.encode(location),
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "bench/without_pandas")},
    )
    assert process.returncode == 0, process.stderr.decode()
    return [first, *msgspec.json.decode(process.stdout, type=list[FirstQuery])]


def _ask(system: WideSystem, case: WideCase) -> FirstQuery:
    ms, result = timed(system.prepare(case))
    return FirstQuery(system.name, ms, system.read(case, result))


def _ask_in_this_process(location: Location) -> Iterator[FirstQuery]:
    case = location.case
    with in_process(location.url, location.redis_url) as service:
        yield _ask(WideInProcess(service), case)
    yield _ask(WideDuckDb(location.duckdb), case)
    with closing(WideChDb(location.chdb)) as chdb:
        yield _ask(chdb, case)


def main() -> None:
    """Read a `Location` from standard input; print what the systems of this process answer."""
    location = msgspec.json.decode(sys.stdin.buffer.read(), type=Location)
    sys.stdout.buffer.write(msgspec.json.encode(list(_ask_in_this_process(location))))


if __name__ == "__main__":
    main()
