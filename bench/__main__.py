"""The command of `make bench`: compares all systems by query, then measures rates.

docs/benchmarks.md explains the parts and the figures.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import click

from bench.anatomy import anatomy
from bench.arriving_events import event_stream
from bench.cases import cases
from bench.columns.figures import column_figures
from bench.columns.memory import worker_memory
from bench.fast_path import fast_path, say
from bench.figures import Figures
from bench.folded_copy import folded_copy
from bench.in_process import in_process
from bench.ingest import ingest_rates
from bench.load import load_rates
from bench.queryapigate import gates
from bench.rates import history_rate, question_rate
from bench.report import Row, show
from bench.rounds import measure_case
from bench.serving import ROOT, serving
from bench.stored_set import Stores, open_stores
from bench.systems import Cached, ChDb, DuckDb, Postgres, System, Uncached
from bench.wide.questions import QUESTIONS as WIDE_QUESTIONS
from bench.wide.rounds import STATES, WideSelection, measure_wide
from bench.wide.systems import OTHERS
from tests.live_server import AUTHORIZED
from tests.source_comparison import connected

PARTS = ("questions", "wide", "columns", "anatomy", "rates", "ingest", "load", "hot-path")
CASES = [case.name for case in cases()]
_TUNED = ("timezone = 'UTC'", "jit = off", "work_mem = '256MB'")


@dataclass(frozen=True, slots=True)
class Selection:
    """The parts of the benchmark to run, and the number of events."""

    events: int
    parts: tuple[str, ...]
    cases: tuple[str, ...]
    wide: WideSelection
    use_up: bool
    keep: bool

    @property
    def stores_events(self) -> bool:
        """Whether a part stores events in the folded copy."""
        arriving = {case.name for case in cases() if case.arriving}
        return "ingest" in self.parts or (
            "questions" in self.parts and not arriving.isdisjoint(self.cases)
        )


@click.command()
@click.option("--events", default=10_000_000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the event set is stored.")
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Default: all.")
@click.option("--case", "names", multiple=True, type=click.Choice(CASES), help="Default: all.")
@click.option("--use-up", is_flag=True, help="Query the set itself, not a copy: half the disk.")
@click.option("--keep", is_flag=True, help="Keep the folded copy, and use one that was kept.")
@click.option("--prepare", is_flag=True, help="Build the set and a copy to keep, and stop.")
@click.option("--add", is_flag=True, help="Add to the figures that build/bench.json has.")
@click.option(
    "--question",
    "questions",
    multiple=True,
    type=click.Choice(list(WIDE_QUESTIONS)),
    help="A question of the part wide. Default: all.",
)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES),
    help="A state of the part wide. Default: all.",
)
@click.option(
    "--without",
    multiple=True,
    type=click.Choice(OTHERS),
    help="A system to leave out of the part wide.",
)
def main(
    events: int,
    folder: Path | None,
    parts: tuple[str, ...],
    names: tuple[str, ...],
    use_up: bool,
    keep: bool,
    prepare: bool,
    add: bool,
    questions: tuple[str, ...],
    states: tuple[str, ...],
    without: tuple[str, ...],
) -> None:
    """Print the tables, and write build/bench.json after each part. Exits with 1 if one failed."""
    # Exiting runs the `finally` blocks, which stop all servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = folder or ROOT / "build" / f"bench-{events}"
    wide = WideSelection(questions or tuple(WIDE_QUESTIONS), states or STATES, without)
    selection = Selection(events, parts or PARTS, names or tuple(CASES), wide, use_up, keep)
    if prepare:
        _prepare(folder, events, use_up)
        return
    if keep and selection.stores_events:
        raise click.UsageError(
            "--keep needs --part, without ingest and without the case of questions in which events "
            "arrive: these store events in the copy."
        )
    figures = Figures(events, ROOT / "build" / "bench.json")
    if add:
        _add_earlier(figures)
    _measure(folder, selection, figures)
    show(figures.report)
    for failure in figures.failures:
        say(f"failed: {failure}")
    sys.exit(1 if figures.failures else 0)


def _add_earlier(figures: Figures) -> None:
    try:
        figures.add_earlier()
    except ValueError as error:
        raise click.UsageError(f"--add: {error}.") from error


def _prepare(folder: Path, events: int, use_up: bool) -> None:
    """Build the set and its folded copy, unless the folder has both."""
    with (
        open_stores(folder, events, say, copy_suffices=True) as stores,
        folded_copy(stores, events, use_up=use_up, keep=True) as (_, rate),
    ):
        say(f"{folder} has a folded copy" + (f", folded at {rate:,.0f} events/s" if rate else ""))


def _measure(folder: Path, selection: Selection, figures: Figures) -> None:
    if selection.parts != ("hot-path",):
        _measure_stored_set(folder, selection, figures)
    if "hot-path" in selection.parts:
        with figures.part("hot-path"):
            figures.rates |= fast_path()


def _measure_stored_set(folder: Path, selection: Selection, figures: Figures) -> None:
    """Run the parts that need the event set."""
    events, copy_suffices = selection.events, selection.keep and "columns" not in selection.parts
    with open_stores(folder, events, say, copy_suffices=copy_suffices) as stores:
        if "load" in selection.parts:
            with figures.part("load"):
                figures.rates |= load_rates(stores, events, say)
        if "columns" in selection.parts:
            with figures.part("columns"):
                figures.columns |= column_figures(stores, events, say)
        if selection.parts != ("load",):
            _measure_service(stores, selection, figures)


def _measure_service(stores: Stores, selection: Selection, figures: Figures) -> None:
    """Run the parts that need a service, after folding the set into rollups and columns."""
    redis_url = stores.endpoints.redis_url
    copy = folded_copy(stores, selection.events, use_up=selection.use_up, keep=selection.keep)
    with copy as (url, fold_rate):
        if fold_rate:
            figures.rates["fold_per_s"] = fold_rate
        with serving(url, redis_url, stores.folder / "service.log") as port:
            for part, measure in _service_parts(stores, url, port, selection, figures).items():
                if part in selection.parts:
                    with figures.part(part):
                        measure()


def _service_parts(
    stores: Stores, url: str, port: int, selection: Selection, figures: Figures
) -> dict[str, Callable[[], object]]:
    """The parts that need a service, in their order: the last two store events."""
    return {
        "rates": lambda: figures.rates.update(_rates(stores, port)),
        "anatomy": lambda: anatomy(url, stores.endpoints, say),
        "columns": lambda: figures.columns.update(worker_memory(port)),
        "wide": lambda: measure_wide(stores, url, port, selection.wide, figures, say),
        "ingest": lambda: figures.rates.update(ingest_rates(port, say)),
        "questions": lambda: figures.rows.extend(_questions(stores, url, port, selection)),
    }


def _rates(stores: Stores, port: int) -> dict[str, float]:
    say("rates")
    return {
        "questions_per_s": question_rate(port, stores.folder),
        "histories_per_s": history_rate(port, stores.folder),
    }


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
