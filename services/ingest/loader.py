"""Loader of files: stores the valid rows of an input, and reports what happened to each row."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repo.ingest import IngestRepo, as_rows
from services.ingest.batch_writer import Batch, BatchWriter
from services.ingest.input_rows import (
    Block,
    InputRow,
    RowOrigin,
    TruncatedInput,
    UnreadRow,
    ValidRows,
)
from services.ingest.mapped_block import MappedBlock
from services.ingest.validation import Invalid, Validator
from utils.signals import uninterrupted
from utils.time.local_times import Adjustment

BATCH = 10_000
Blocks = Iterator[Block | MappedBlock | list[InputRow]]
_MAX_PART_ROWS = 2_000
_MAX_EXCERPT_CHARS = 2_000


@dataclass(slots=True)
class LoadReport:
    """Counts of the rows of an input. A row is counted once that is certain."""

    inserted: int = 0
    present: int = 0
    """Rows whose event_id was stored before."""
    suppressed: int = 0
    """Rows of suppressed users."""
    rejected: Counter[str] = field(default_factory=Counter)
    missing_sources: Counter[str] = field(default_factory=Counter)
    """Rows that lack the column of a mapped field, by field."""
    adjusted: Counter[Adjustment] = field(default_factory=Counter)
    """Rows with local times that occur twice or never, at a change of the clocks."""
    truncation: str | None = None
    """The reason why the input ended early, if it did."""
    failure: str | None = None
    """The reason why the input could not be read, if it could not."""

    @property
    def read(self) -> int:
        """The number of rows that were read."""
        return self.inserted + self.present + self.suppressed + self.rejected.total()

    @property
    def is_clean(self) -> bool:
        return not self.rejected and self.truncation is None and self.failure is None


class RejectedFile:
    """The file `NAME.rejected.ndjson` with rejected rows; it is created with the first one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failure: str | None = None
        """The reason why rows could not be written to the file; they are still counted."""
        self._file: io.TextIOWrapper | None = None
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            self.failure = str(exc)

    def write(self, origin: RowOrigin, reason: str) -> None:
        """Append a row, with its line number and the reason; see `failure` for errors."""
        number, raw = origin
        row = {"line": number, "reason": reason, "input": _excerpt(raw)}
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8")
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as exc:
            self.failure = str(exc)

    def close(self) -> None:
        try:
            if self._file is not None:
                self._file.close()
        except OSError as exc:
            self.failure = str(exc)


class Loader:
    """Loads inputs one after another. The next batch is read while PostgreSQL stores the last."""

    def __init__(
        self,
        repo: IngestRepo,
        validator: Validator,
        batch: int = BATCH,
        check_space: Callable[[], None] = lambda: None,
    ) -> None:
        """`check_space` is called before each batch, and raises DiskFull to stop the load."""
        self._check_space = check_space
        self._repo = repo
        self._validator = validator
        self._batch = batch

    @property
    def part_rows(self) -> int:
        """The most rows of a block."""
        return min(_MAX_PART_ROWS, self._batch)

    def load(
        self,
        blocks: Blocks,
        report: LoadReport,
        *,
        rejected: RejectedFile,
        progress: Callable[[int], None],
    ) -> None:
        """Load the blocks of an input, and count its rows in `report`, also after an error.

        `progress` is called with the number of rows of each batch.

        Raises: UnreadableInput, DiskFull, DatabaseUnavailable.
        """
        self._validator.adjusted = report.adjusted
        writer = BatchWriter(self._repo, check_space=self._check_space)
        try:
            for batch in self._batches(blocks, report, rejected):
                writer.wait()
                _count_results(writer, report, rejected)
                # Interrupted between start and assignment, `close` would not wait for the batch.
                with uninterrupted():
                    writer.store(batch)
                progress(len(batch.rows))
            writer.wait()
        finally:
            with uninterrupted():
                writer.close()
                _count_results(writer, report, rejected)

    def _batches(
        self, blocks: Blocks, report: LoadReport, rejected: RejectedFile
    ) -> Iterator[Batch]:
        """The valid rows in batches of the configured size, smaller if the rows are large."""
        batch = Batch()
        try:
            for part in blocks:
                batch.add(*self._validate_part(part, report, rejected))
                if batch.is_full(self._batch):
                    yield batch
                    batch = Batch()
        except TruncatedInput as exc:
            report.truncation = str(exc)
        yield batch

    def _validate_part(
        self, part: Block | MappedBlock | list[InputRow], report: LoadReport, rejected: RejectedFile
    ) -> ValidRows:
        """The valid rows of a part: of the whole block at once if possible, else row by row."""
        if isinstance(part, list):
            return self._validate_rows(part, report, rejected)
        if isinstance(part, MappedBlock):
            return self._validate_mapped(part, report, rejected)
        if valid_rows := part.rows(self._validator.latest()):
            report.missing_sources.update(part.missing_sources)
            return valid_rows
        return self._validate_rows(list(part.lines()), report, rejected)

    def _validate_mapped(
        self, part: MappedBlock, report: LoadReport, rejected: RejectedFile
    ) -> ValidRows:
        """The valid rows of a block, in their order."""
        rows, origins = part.rows(self._validator)
        report.missing_sources.update(part.missing_sources)
        if not part.others:
            return rows, origins
        others, other_origins = self._validate_rows(part.others, report, rejected)
        return _in_order((rows + others, origins + other_origins))

    def _validate_rows(
        self, input_rows: list[InputRow], report: LoadReport, rejected: RejectedFile
    ) -> ValidRows:
        events, origins = [], []
        for input_row in input_rows:
            origin = (input_row.number, input_row.raw)
            try:
                if isinstance(input_row.event, Invalid):
                    raise input_row.event
                events.append(self._validator(input_row.event))
                origins.append(origin)
                report.missing_sources.update(input_row.missing_sources)
            except Invalid as exc:
                _reject(origin, str(exc), report, rejected)
        return as_rows(events), origins


def _in_order(valid_rows: ValidRows) -> ValidRows:
    """Return the rows in the order of the file."""
    rows, origins = valid_rows
    order = sorted(range(len(rows)), key=lambda at: origins[at][0])
    return [rows[at] for at in order], [origins[at] for at in order]


def _count_results(writer: BatchWriter, report: LoadReport, rejected: RejectedFile) -> None:
    """Count the rows of the batches that are committed."""
    with uninterrupted():
        for result in writer.results():
            report.inserted += result.inserted
            report.present += result.present
            report.suppressed += result.suppressed
            for origin, reason in result.refused:
                _reject(origin, reason, report, rejected)


def _reject(origin: RowOrigin, reason: str, report: LoadReport, rejected: RejectedFile) -> None:
    with uninterrupted():
        report.rejected[reason] += 1
        rejected.write(origin, reason)


def _excerpt(row: Any) -> str:
    if isinstance(row, UnreadRow):
        row = row.read()
    if isinstance(row, bytes):
        return row[:_MAX_EXCERPT_CHARS].decode(errors="replace").rstrip("\r\n")
    text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
    return text[:_MAX_EXCERPT_CHARS].encode(errors="replace").decode()
