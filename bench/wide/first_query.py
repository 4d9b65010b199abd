"""Time the first query of a new process, which holds nothing in memory but its code.

The caches of PostgreSQL and of the operating system stay as they are.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
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

SYSTEMS = (WideService.name, WideInProcess.name, WideDuckDb.name, WideChDb.name)
"""PostgreSQL is not one of them: a new connection to it is as fast as an old one."""


class FirstQuery(msgspec.Struct, frozen=True):
    """The time of a query in ms, and its answer."""

    ms: float
    answer: list[int]


class Place(msgspec.Struct, frozen=True):
    """Where the systems are, and the case: the number of a question's cases."""

    url: str
    redis_url: str
    duckdb: str
    chdb: str
    question: str
    number: int

    @property
    def case(self) -> WideCase:
        return next(islice(wide_cases(self.question), self.number, None))


def first_query(system: str, stores: Stores, url: str, question: str, number: int) -> FirstQuery:
    """Start a system, ask it the case of this number, and stop it."""
    place = Place(
        url,
        stores.endpoints.redis_url,
        str(stores.duckdb),
        str(stores.chdb),
        question,
        number,
    )
    if system == WideService.name:
        with serving(url, place.redis_url, stores.folder / "first-query.log") as port:
            return _ask(WideService(port), place.case)
    arguments = [sys.executable, "-m", "bench.wide.first_query", system]
    output = subprocess.run(
        arguments, input=msgspec.json.encode(place), stdout=subprocess.PIPE, check=True, cwd=ROOT
    ).stdout
    return msgspec.json.decode(output, type=FirstQuery)


def _ask(system: WideSystem, case: WideCase) -> FirstQuery:
    ms, result = timed(system.prepare(case))
    return FirstQuery(ms, system.read(case, result))


@contextmanager
def _open(system: str, place: Place) -> Iterator[WideSystem]:
    if system == WideDuckDb.name:
        yield WideDuckDb(place.duckdb)
    elif system == WideChDb.name:
        with closing(WideChDb(place.chdb)) as chdb:
            yield chdb
    else:
        with in_process(place.url, place.redis_url) as service:
            yield WideInProcess(service)


def main() -> None:
    """Read a `Place` from standard input; print a `FirstQuery`."""
    place = msgspec.json.decode(sys.stdin.buffer.read(), type=Place)
    with _open(sys.argv[1], place) as system:
        first = _ask(system, place.case)
    sys.stdout.buffer.write(msgspec.json.encode(first))


if __name__ == "__main__":
    main()
