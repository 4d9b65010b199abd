"""The command of `make bench`: compares all systems by query, then measures rates.

docs/benchmarks.md explains the parts and the figures.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import click

from bench.anatomy import anatomy
from bench.arriving_events import event_stream
from bench.cases import cases
from bench.columns.figures import column_figures
from bench.columns.memory import worker_memory
from bench.fast_path import fast_path, say
from bench.in_process import in_process
from bench.ingest import ingest_rates
from bench.load import fold_rate, load_rates
from bench.queryapigate import gates
from bench.rates import history_rate, question_rate
from bench.report import Report, Row, machine, show, write
from bench.rounds import measure_case
from bench.serving import ROOT, make_key, serving
from bench.stored_set import Stores, open_stores, working_copy
from bench.systems import Cached, ChDb, DuckDb, Postgres, System, Uncached
from bench.wide.rounds import measure_wide
from tests.live_server import AUTHORIZED
from tests.source_comparison import connected

PARTS = ("questions", "wide", "columns", "anatomy", "rates", "ingest", "load", "hot-path")
CASES = [case.name for case in cases()]
RATES = (
    "cached_per_s",
    "starlette_redis_per_s",
    "load_per_s",
    "copy_per_s",
    "fold_per_s",
    "ingest_per_s",
)
"""The rates that every report contains; 0 if they were not measured."""

_TUNED = ("timezone = 'UTC'", "jit = off", "work_mem = '256MB'")


@dataclass(slots=True)
class Figures:
    """The figures of a run: rows of the tables, figures of columns, and rates."""

    rows: list[Row] = field(default_factory=list)
    wide: list[Row] = field(default_factory=list)
    columns: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which parts of the benchmark run, and over how many events."""

    events: int
    parts: tuple[str, ...]
    cases: tuple[str, ...]
    use_up: bool


@click.command()
@click.option("--events", default=10_000_000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the event set is stored.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Default: all.")
@click.option("--case", "names", multiple=True, type=click.Choice(CASES), help="Default: all.")
@click.option("--use-up", is_flag=True, help="Query the set itself, not a copy: half the disk.")
def main(
    events: int, folder: Path | None, parts: tuple[str, ...], names: tuple[str, ...], use_up: bool
) -> None:
    """Print the table, and write build/bench.json."""
    # Exiting runs the `finally` blocks, which stop all servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    selection = Selection(events, parts or PARTS, names or tuple(CASES), use_up)
    figures = Figures()
    _measure_stored_set(folder or ROOT / "build" / f"bench-{events}", selection, figures)
    figures.rates |= fast_path() if "hot-path" in selection.parts else {}
    rates: dict[str, float] = {
        name: round(rate) for name, rate in (dict.fromkeys(RATES, 0.0) | figures.rates).items()
    }
    report = Report(events, machine(), figures.rows, figures.wide, figures.columns, rates)
    show(report)
    write(report, ROOT / "build" / "bench.json")


def _measure_stored_set(folder: Path, selection: Selection, figures: Figures) -> None:
    """Run the parts that need the event set."""
    if selection.parts == ("hot-path",):
        return
    with open_stores(folder, selection.events, say) as stores:
        if "load" in selection.parts:
            figures.rates |= load_rates(stores, selection.events, say)
        if "columns" in selection.parts:
            figures.columns |= column_figures(stores, selection.events, say)
        if selection.parts != ("load",):
            _measure_service(stores, selection, figures)


def _measure_service(stores: Stores, selection: Selection, figures: Figures) -> None:
    """Run the parts that need a service, after folding the set into rollups and columns."""
    parts, rates = selection.parts, figures.rates
    with working_copy(stores, "asked", use_up=selection.use_up) as url:
        make_key(url)
        rates["fold_per_s"] = fold_rate(url, selection.events)
        with serving(url, stores.endpoints.redis_url, stores.folder / "service.log") as port:
            if "rates" in parts:
                say("rates")
                rates["questions_per_s"] = question_rate(port, stores.folder)
                rates["histories_per_s"] = history_rate(port, stores.folder)
            if "anatomy" in parts:
                anatomy(url, stores.endpoints, say)
            if "columns" in parts:
                figures.columns |= worker_memory(port)
            if "wide" in parts:
                figures.wide = measure_wide(stores, url, port, say)
            if "ingest" in parts:
                rates |= ingest_rates(port, say)
            if "questions" in parts:
                figures.rows = _questions(stores, url, port, selection)


def _questions(stores: Stores, url: str, port: int, selection: Selection) -> list[Row]:
    rows: list[Row] = []
    with _all_systems(stores, url, port) as systems:
        for case in cases():
            if case.name in selection.cases:
                with event_stream(url) if case.arriving else nullcontext():
                    rows += measure_case(systems, case, say)
    return rows


@contextmanager
def _all_systems(stores: Stores, url: str, port: int) -> Iterator[list[System]]:
    with ExitStack() as stack:
        plain, tuned = (stack.enter_context(connected(url)) for _ in range(2))
        yield [
            Uncached(port, {**AUTHORIZED, "Cache-Control": "no-cache"}),
            Cached(port, AUTHORIZED),
            stack.enter_context(in_process(url, stores.endpoints.redis_url)),
            Postgres("postgresql plain", plain, "timezone = 'UTC'"),
            Postgres("postgresql tuned", tuned, *_TUNED),
            DuckDb(stores.duckdb),
            ChDb(stores.chdb),
            *stack.enter_context(gates(url, stores.folder)),
        ]


if __name__ == "__main__":
    main()
