"""The figures of a run, which are written after each part, so that a failed one loses no other."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.report import Report, Row, machine, write

RATES = (
    "cached_per_s",
    "starlette_redis_per_s",
    "load_per_s",
    "copy_per_s",
    "fold_per_s",
    "ingest_per_s",
)
"""The rates that every report contains; 0 if they were not measured."""


@dataclass(slots=True)
class Figures:
    """The figures of a run: rows of the tables, figures of columns, and rates."""

    events: int
    file: Path
    """Where they are written."""
    rows: list[Row] = field(default_factory=list)
    wide: list[Row] = field(default_factory=list)
    columns: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    """The names of the parts that failed, with the errors."""

    @property
    def report(self) -> Report:
        """All figures; those of the same query that come later replace earlier ones."""
        rates: dict[str, float] = {
            name: round(rate) for name, rate in (dict.fromkeys(RATES, 0.0) | self.rates).items()
        }
        rows, wide = _latest(self.rows), _latest(self.wide)
        return Report(self.events, machine(), rows, wide, self.columns, rates)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Write all figures after the block. If it fails, the run goes on without its figures."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.failures.append(f"{name}: {str(error).partition(chr(10))[0][:300]}")
        finally:
            write(self.report, self.file)

    def add_earlier(self) -> None:
        """Take the figures of the file, if there is one, so that this run adds to them.

        Raises: ValueError if they are from another number of events or another machine.
        """
        if not self.file.exists():
            return
        earlier = msgspec.json.decode(self.file.read_bytes(), type=Report)
        if (earlier.events, earlier.machine) != (self.events, machine()):
            raise ValueError(
                f"{self.file} has figures of {earlier.events:,} events and {earlier.machine}"
            )
        self.rows, self.wide = earlier.rows, earlier.wide
        self.columns, self.rates = earlier.columns, earlier.rates


def _latest(rows: list[Row]) -> list[Row]:
    return list({(row.question, row.system, row.zone): row for row in rows}.values())
