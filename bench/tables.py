"""Write the tables of build/bench.json into README and docs: `python -m bench.tables`.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`, below the number of events and the
machine. One without figures is left alone.
"""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from bench.report import BASELINE, Report, Row
from bench.serving import ROOT
from bench.wide.questions import LABELS

PAGES = (ROOT / "README.md", ROOT / "docs/benchmarks.md")

_TABLE = re.compile(r"(<!-- table: (?P<name>[\w-]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)
_INTROS = {
    "wide-warm": "Warm. ",
    "wide-cold": "Nothing cached. ",
    "wide-readme": (
        "Questions about properties and the order of events, each query with another range "
        "and filter; DuckDB and chDB have typed columns.\n"
    ),
}
_IN_README = ("service http uncached", "postgresql tuned", "duckdb", "chdb")
_QUESTIONS_IN_README = (
    "filtered_events",
    "filtered_users",
    "wide_users",
    "by_country",
    "by_path",
    "numbers",
    "funnel_common",
    "retention_day",
    "did_not",
)
_COLUMNS = {
    "folding alone, events/s": "fold_alone_per_s",
    "writing columns alone, which is how they are built in an existing database, events/s": (
        "columns_alone_per_s"
    ),
    "maximal memory of the process that writes columns, MB": "columns_alone_max_mb",
    "columns, bytes per event": "columns_bytes_per_event",
    "`events` with its indexes, bytes per event": "events_bytes_per_event",
    "memory of a worker that has read all columns of the questions: RSS, MB": "worker_rss_mb",
    "the same memory, with shared pages divided by the workers (PSS), MB": "worker_pss_mb",
    "a late event, ms": "late_event_ms",
    "a merge of 8 chunks of 15,000 events, ms": "merge_of_8_chunks_of_15000_ms",
    "events of the most active user": "erased_user_events",
    "erasing this user, ms": "erase_ms",
    "rewriting the user's chunks after that, ms": "erase_columns_ms",
    "write-ahead log of rewriting them, bytes": "erase_columns_wal_bytes",
}
_STEADY = {
    "write-ahead log, bytes per event": "wal_bytes_per_event",
    "dead rows per million events": "dead_rows_per_million",
    "time, µs per event": "us_per_event",
    "chunks at the end": "chunks",
}


def tables(report: Report) -> Mapping[str, Sequence[Sequence[str]]]:
    """The rows of each table by its name; no rows if nothing was measured."""
    readme = [
        row
        for row in report.wide
        if row.system in _IN_README and row.question in _QUESTIONS_IN_README
    ]
    renderers: dict[str, Callable[[], Sequence[Sequence[str]]]] = {
        "wide-warm": lambda: _wide(_of_state(report.wide, "warm")),
        "wide-cold": lambda: _wide(_of_state(report.wide, "cold")),
        "wide-readme": lambda: _wide(_of_state(readme, "warm"), _cold_row(readme)),
        "columns": lambda: _figures(report.columns),
        "columns-steady": lambda: _steady(report.columns),
    }
    return {name: render() for name, render in renderers.items()}


def _of_state(rows: Sequence[Row], state: str) -> list[Row]:
    return [row for row in rows if row.zone == state]


def _cold_row(rows: Sequence[Row]) -> list[Row]:
    cold = [row for row in rows if row.zone == "cold" and row.system == BASELINE]
    return [msgspec.structs.replace(row, system=f"{BASELINE}, nothing cached") for row in cold]


def _wide(rows: Sequence[Row], more: Sequence[Row] = ()) -> list[list[str]]:
    """A row for each question that was measured, with the times of the systems in ms."""
    times = {(row.system, row.question): row.ms for row in (*rows, *more)}
    systems = dict.fromkeys(system for system, _ in times)
    measured = {question for _, question in times}
    return [["ms", *systems]] * bool(systems) + [
        [label, *(_cell(times.get((system, question))) for system in systems)]
        for question, label in LABELS.items()
        if question in measured
    ]


def _cell(ms: float | None) -> str:
    return "-" if ms is None else _format(ms)


def _figures(figures: Mapping[str, float]) -> list[list[str]]:
    shown = {label: figures[key] for label, key in _COLUMNS.items() if key in figures}
    rows = [
        [label, f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"]
        for label, figure in shown.items()
    ]
    return [["columns", ""]] * bool(rows) + rows


def _steady(figures: Mapping[str, float]) -> list[list[str]]:
    loads = [match[1] for key in figures if (match := re.fullmatch(r"chunks_at_(\d+)_per_s", key))]
    header = ["", *(f"{int(load):,} events/s" for load in loads)]
    return [header] * bool(loads) + [
        [label, *(_format(figures[f"{key}_at_{load}_per_s"]) for load in loads)]
        for label, key in _STEADY.items()
        if loads
    ]


def _format(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{float(f'{figure:.2g}'):g}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The rows as a table, of which the first is the header."""
    header, *others = rows
    lines = [header, ["---"] * len(header), *others]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return text.replace("| ---", "|---").replace("--- |", "---|")


def replaced(text: str, report: Report) -> str:
    """The text of a page with the tables of a report."""
    by_name = tables(report)
    caption = f"{report.events:,} events, {report.machine}:"

    def table(match: re.Match[str]) -> str:
        rows, intro = by_name[match["name"]], _INTROS.get(match["name"], "")
        return f"{match[1]}{intro}{caption}\n\n{markdown(rows)}\n" if rows else match[0]

    return _TABLE.sub(table, text)


def main(file: Path) -> None:
    """Write the tables of a report into all pages."""
    report = msgspec.json.decode(file.read_bytes(), type=Report)
    for page in PAGES:
        page.write_text(replaced(page.read_text(), report))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "bench.json")
