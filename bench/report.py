"""The results: a table for people, and build/bench.json for programs."""

import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from bench.cases import QUESTIONS
from bench.wide import questions as wide

BASELINE = "service http uncached"
"""The system with which all others are compared."""


class Row(msgspec.Struct, frozen=True):
    """The median time of one query on one system in one case, in ms."""

    question: str
    system: str
    zone: str
    ms: float
    sql: str


class Report(msgspec.Struct, frozen=True):
    """All figures of one run."""

    events: int
    machine: str
    rows: list[Row]
    wide: list[Row]
    """Questions with filters; the zone is `warm` or `cold`."""
    columns: dict[str, float]
    """Rates, sizes and costs of columns; the names end with the units."""
    rates: dict[str, float]


def write(report: Report, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


def machine() -> str:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return f"{os.cpu_count()} cores ({_processor()}), {pages * size / 2**30:.0f} GB"


def show(report: Report) -> None:
    """Print all figures in ms, each with its ratio to BASELINE."""
    console = Console(file=sys.stdout, width=200, color_system=None)
    console.print(f"{report.events:,} events, {report.machine}; ms, and times `{BASELINE}`")
    if report.rows:
        console.print(_table(report.rows, QUESTIONS))
    if report.wide:
        console.print(_transposed(report.wide, wide.LABELS))
    for name, figure in report.columns.items():
        console.print(f"{name}: {figure:,.0f}" if figure >= 100 else f"{name}: {figure:.3g}")
    for name, rate in report.rates.items():
        console.print(f"{name}: {rate:,.0f}")


def _transposed(rows: list[Row], labels: dict[str, str]) -> Table:
    """A table with a row for each question, as there are many of them."""
    table = Table(box=box.MARKDOWN)
    columns = _unique((row.zone, row.system) for row in rows)
    for name in ("question", *(f"{zone}: {system}" for zone, system in columns)):
        table.add_column(name, justify="left" if name == "question" else "right")
    figures = {(row.zone, row.system, row.question): row.ms for row in rows}
    for question in dict.fromkeys(row.question for row in rows):
        cells = (_cell(figures, zone, system, question) for zone, system in columns)
        table.add_row(labels[question], *cells)
    return table


def _table(rows: list[Row], labels: dict[str, str]) -> Table:
    table = Table(box=box.MARKDOWN)
    table.add_column("zone")
    table.add_column("system")
    for label in labels.values():
        table.add_column(label, justify="right")
    figures = {(row.zone, row.system, row.question): row.ms for row in rows}
    for zone, system in _unique((row.zone, row.system) for row in rows):
        cells = (_cell(figures, zone, system, question) for question in labels)
        table.add_row(zone, system, *cells)
    return table


def _cell(figures: dict[tuple[str, str, str], float], zone: str, system: str, question: str) -> str:
    ms = figures.get((zone, system, question))
    if ms is None:
        return "-"
    baseline = figures.get((zone, BASELINE, question))
    ratio = f" ({ms / baseline:.2g}x)" if baseline and system != BASELINE else ""
    return f"{ms:,.0f}{ratio}" if ms >= 100 else f"{ms:.3g}{ratio}"


def _unique(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return list(dict.fromkeys(pairs))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
