"""One input into the table, and the report of what became of each of its rows."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from repo.ingest import Event, EventsExpired, EventsRefused, IngestRepo
from services.ingest.events import Invalid, Validator
from services.ingest.readers import Columns, Ended, Form, Input, Line, read

BATCH = 10_000
_BATCH_BYTES = 16 * 1024 * 1024
_SHOWN = 2_000


@dataclass(slots=True)
class Report:
    """What became of the rows: read = inserted + present + suppressed + all of rejected."""

    read: int = 0
    inserted: int = 0
    present: int = 0
    """Rows whose event_id was there already."""
    suppressed: int = 0
    """Rows of users who were erased, and whose events are not to come back."""
    rejected: Counter[str] = field(default_factory=Counter)
    ended: str | None = None
    """Why the input ended early, if it did."""

    @property
    def is_clean(self) -> bool:
        return not self.rejected and self.ended is None


class Stored(NamedTuple):
    """What PostgreSQL did with a batch."""

    inserted: int
    present: int
    suppressed: int
    refused: list[tuple[Line, str]]


class RejectedFile:
    """`NAME.rejected.ndjson`; it exists only where rows were rejected."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failure: str | None = None
        """Why rows could not be written to it; they are counted all the same."""
        self._file: io.TextIOWrapper | None = None
        try:
            path.unlink(missing_ok=True)
        except OSError as exc:
            self.failure = str(exc)

    def write(self, line: Line, reason: str) -> None:
        row = {"line": line.number, "reason": reason, "input": _shown(line.shown)}
        try:
            if self._file is None:
                self._file = self.path.open("w", encoding="utf-8")
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        except OSError as exc:
            self.failure = str(exc)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Loader:
    """Loads inputs, one after another. Reading goes on while PostgreSQL takes the batch before."""

    def __init__(self, repo: IngestRepo, validator: Validator, batch: int = BATCH) -> None:
        self._repo = repo
        self._validator = validator
        self._batch = batch

    def load(
        self,
        form: Form,
        file: Input,
        columns: Columns,
        report: Report,
        *,
        rejected: RejectedFile,
        progress: Callable[[int], None],
    ) -> None:
        """What becomes of the rows is counted in the report, also where this raises.

        `progress` is told how many rows were taken. Raises: Unreadable, DatabaseUnavailable.
        """
        with ThreadPoolExecutor(1) as writer:
            pending: Future[Stored] | None = None
            for lines in self._batches(read(form, file, columns), report):
                valid = self._valid(lines, report, rejected)
                _account(pending, report, rejected)
                pending = writer.submit(self._store, valid)
                progress(len(lines))
            _account(pending, report, rejected)

    def _batches(self, lines: Iterator[Line], report: Report) -> Iterator[list[Line]]:
        """So many rows, or fewer where they are large."""
        batch: list[Line] = []
        size = 0
        try:
            for line in lines:
                batch.append(line)
                size += size_of(line.shown)
                if len(batch) == self._batch or size > _BATCH_BYTES:
                    yield batch
                    batch, size = [], 0
        except Ended as exc:
            report.ended = str(exc)
        if batch:
            yield batch

    def _valid(
        self, lines: list[Line], report: Report, rejected: RejectedFile
    ) -> list[tuple[Line, Event]]:
        report.read += len(lines)
        valid = []
        for line in lines:
            try:
                if isinstance(line.given, Invalid):
                    raise line.given
                valid.append((line, self._validator(line.given)))
            except Invalid as exc:
                _reject(line, str(exc), report, rejected)
        return valid

    def _store(self, rows: list[tuple[Line, Event]]) -> Stored:
        """PostgreSQL has the last word: a batch that it refuses is halved to find the row."""
        try:
            inserted, suppressed = self._repo.insert(event for _, event in rows)
        except EventsExpired as exc:
            kept = self._store([row for at, row in enumerate(rows) if at not in exc.places])
            expired = [(rows[at][0], str(exc)) for at in sorted(exc.places)]
            return kept._replace(refused=expired + kept.refused)
        except EventsRefused as exc:
            if len(rows) == 1:
                return Stored(0, 0, 0, [(rows[0][0], str(exc))])
            middle = len(rows) // 2
            first, second = self._store(rows[:middle]), self._store(rows[middle:])
            return Stored(
                first.inserted + second.inserted,
                first.present + second.present,
                first.suppressed + second.suppressed,
                first.refused + second.refused,
            )
        return Stored(inserted, len(rows) - inserted - suppressed, suppressed, [])


def _account(pending: "Future[Stored] | None", report: Report, rejected: RejectedFile) -> None:
    """Wait for a batch, and count what became of it."""
    if pending is None:
        return
    stored = pending.result()
    report.inserted += stored.inserted
    report.present += stored.present
    report.suppressed += stored.suppressed
    for line, reason in stored.refused:
        _reject(line, reason, report, rejected)


def _reject(line: Line, reason: str, report: Report, rejected: RejectedFile) -> None:
    report.rejected[reason] += 1
    rejected.write(line, reason)


def size_of(row: Any) -> int:
    """About how many bytes a row holds in memory."""
    if isinstance(row, bytes | str):
        return len(row)
    return sum(len(cell) if isinstance(cell, bytes | str) else 100 for cell in row)


def _shown(row: Any) -> str:
    if isinstance(row, bytes):
        return row[:_SHOWN].decode(errors="replace").rstrip("\r\n")
    text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
    return text[:_SHOWN].encode(errors="replace").decode()
