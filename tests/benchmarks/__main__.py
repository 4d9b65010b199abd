"""`make bench`: each question asked of everybody, then rates; docs/benchmarks.md tells more."""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import click

from tests.benchmarks.anatomy import anatomy
from tests.benchmarks.arriving import arriving
from tests.benchmarks.asking import Row, asked
from tests.benchmarks.cases import cases
from tests.benchmarks.gate import gates
from tests.benchmarks.hot_path import hot_path, say
from tests.benchmarks.in_process import in_process
from tests.benchmarks.ingest import ingest_rates
from tests.benchmarks.loading import fold_rate, load_rates
from tests.benchmarks.rates import history_rate, question_rate
from tests.benchmarks.report import Report, machine, show, write
from tests.benchmarks.serving import ROOT, make_key, serving
from tests.benchmarks.store import Stores, asked_copy, connected, open_stores
from tests.benchmarks.systems import Cached, ChDb, DuckDb, Postgres, System, Uncached
from tests.running import AUTHORIZED

PARTS = ("questions", "anatomy", "rates", "ingest", "load", "hot-path")
CASES = [case.name for case in cases()]
RATES = (
    "cached_per_s",
    "starlette_redis_per_s",
    "load_per_s",
    "copy_per_s",
    "fold_per_s",
    "ingest_per_s",
)
"""Those that are always told; 0: not measured."""

_TUNED = ("timezone = 'UTC'", "jit = off", "work_mem = '256MB'")

Measured = tuple[list[Row], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much of the benchmark runs."""

    events: int
    parts: tuple[str, ...]
    cases: tuple[str, ...]
    use_up: bool


@click.command()
@click.option("--events", default=10_000_000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the event set is kept.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="All unless given.")
@click.option("--case", "names", multiple=True, type=click.Choice(CASES), help="All unless given.")
@click.option("--use-up", is_flag=True, help="Ask the set itself, not a copy: half the disk.")
def main(
    events: int, folder: Path | None, parts: tuple[str, ...], names: tuple[str, ...], use_up: bool
) -> None:
    """Print the table, and write build/bench.json."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ending all that was started
    wanted = Wanted(events, parts or PARTS, names or tuple(CASES), use_up)
    rows, measured = _stored(folder or ROOT / "build" / f"bench-{events}", wanted)
    measured |= hot_path() if "hot-path" in wanted.parts else {}
    rates: dict[str, float] = {
        name: round(rate) for name, rate in (dict.fromkeys(RATES, 0.0) | measured).items()
    }
    report = Report(events, machine(), rows, rates)
    show(report)
    write(report, ROOT / "build" / "bench.json")


def _stored(folder: Path, wanted: Wanted) -> Measured:
    """What needs the event set."""
    if wanted.parts == ("hot-path",):
        return [], {}
    with open_stores(folder, wanted.events, say) as stores:
        loaded = load_rates(stores, wanted.events, say) if "load" in wanted.parts else {}
        if wanted.parts == ("load",):
            return [], loaded
        rows, rates = _served(stores, wanted)
        return rows, loaded | rates


def _served(stores: Stores, wanted: Wanted) -> Measured:
    """What is measured on a running service, over a set that was folded just before."""
    rows: list[Row] = []
    with asked_copy(stores, "asked", use_up=wanted.use_up) as url:
        make_key(url)
        rates = {"fold_per_s": fold_rate(url, wanted.events)}
        with serving(url, stores.endpoints.redis_url, stores.folder / "service.log") as port:
            if "rates" in wanted.parts:
                say("rates")
                rates["questions_per_s"] = question_rate(port, stores.folder)
                rates["histories_per_s"] = history_rate(port, stores.folder)
            if "anatomy" in wanted.parts:
                anatomy(url, stores.endpoints, say)
            if "ingest" in wanted.parts:
                rates |= ingest_rates(port, say)
            if "questions" in wanted.parts:
                rows = _questions(stores, url, port, wanted)
    return rows, rates


def _questions(stores: Stores, url: str, port: int, wanted: Wanted) -> list[Row]:
    rows: list[Row] = []
    with _everybody(stores, url, port) as systems:
        for case in cases():
            if case.name in wanted.cases:
                with arriving(url) if case.arriving else nullcontext():
                    rows += asked(systems, case, say)
    return rows


@contextmanager
def _everybody(stores: Stores, url: str, port: int) -> Iterator[list[System]]:
    with ExitStack() as stack:
        plain, tuned = (stack.enter_context(connected(url)) for _ in range(2))
        yield [
            Uncached(port, {**AUTHORIZED, "Cache-Control": "no-cache"}),
            Cached(port, AUTHORIZED),
            stack.enter_context(in_process(url, stores.endpoints)),
            Postgres("postgresql plain", plain, "timezone = 'UTC'"),
            Postgres("postgresql tuned", tuned, *_TUNED),
            DuckDb(stores.duckdb),
            ChDb(stores.chdb),
            *stack.enter_context(gates(url, stores.folder)),
        ]


if __name__ == "__main__":
    main()
