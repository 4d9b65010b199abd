"""One input into the table, and the report of what became of each of its rows."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repo.ingest import IngestRepo, as_rows
from services.ingest.events import Invalid, Validator
from services.ingest.lines import Block, Columns, Ended, Form, Input, Line, Place, Taken
from services.ingest.readers import read
from services.ingest.writer import Batch, Writer
from utils.local_times import Adjustment
from utils.signals import uninterrupted

BATCH = 10_000
_PART = 500  # lines that are looked at one by one if one of them is not as most are
_SHOWN = 2_000


@dataclass(slots=True)
class Report:
    """What became of the rows. A row counts when that is certain."""

    inserted: int = 0
    present: int = 0
    """Rows whose event_id was there already."""
    suppressed: int = 0
    """Rows of users who were erased, and whose events are not to come back."""
    rejected: Counter[str] = field(default_factory=Counter)
    lacking: Counter[str] = field(default_factory=Counter)
    """Rows without the source of a field that was named, by field."""
    adjusted: Counter[Adjustment] = field(default_factory=Counter)
    """Rows whose local times clocks show twice, or never."""
    ended: str | None = None
    """Why the input ended early, if it did."""
    failure: str | None = None
    """Why the input could not be read, if it could not."""

    @property
    def read(self) -> int:
        return self.inserted + self.present + self.suppressed + self.rejected.total()

    @property
    def is_clean(self) -> bool:
        return not self.rejected and self.ended is None and self.failure is None


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

    def write(self, place: Place, reason: str) -> None:
        number, shown = place
        row = {"line": number, "reason": reason, "input": _shown(shown)}
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
    """Loads inputs, one after another. Reading goes on while PostgreSQL takes the batch before."""

    def __init__(
        self,
        repo: IngestRepo,
        validator: Validator,
        batch: int = BATCH,
        check_room: Callable[[], None] = lambda: None,
    ) -> None:
        """`check_room` is called before each batch, and raises where there is none."""
        self._check_room = check_room
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
        self._validator.adjusted = report.adjusted
        writer = Writer(self._repo, check_room=self._check_room)
        try:
            for batch in self._batches(form, file, columns, report, rejected):
                writer.wait()
                _account(writer, report, rejected)
                with uninterrupted():
                    writer.store(batch)
                progress(len(batch.rows))
            writer.wait()
        finally:
            with uninterrupted():
                writer.close()
                _account(writer, report, rejected)

    def _batches(
        self, form: Form, file: Input, columns: Columns, report: Report, rejected: RejectedFile
    ) -> Iterator[Batch]:
        """So many rows, or fewer where they are large."""
        batch = Batch()
        try:
            for part in read(form, file, columns, min(_PART, self._batch)):
                batch.add(*self._taken(part, report, rejected))
                if batch.is_full(self._batch):
                    yield batch
                    batch = Batch()
        except Ended as exc:
            report.ended = str(exc)
        yield batch

    def _taken(self, part: Block | list[Line], report: Report, rejected: RejectedFile) -> Taken:
        """A block in which all is as usual is taken as a whole, and else line by line."""
        if isinstance(part, list):
            return self._valid(part, report, rejected)
        if taken := part.rows(self._validator.until()):
            return taken
        return self._valid(list(part.lines()), report, rejected)

    def _valid(self, lines: list[Line], report: Report, rejected: RejectedFile) -> Taken:
        events, places = [], []
        for line in lines:
            place = (line.number, line.shown)
            try:
                if isinstance(line.given, Invalid):
                    raise line.given
                events.append(self._validator(line.given))
                places.append(place)
                report.lacking.update(line.lacking)
            except Invalid as exc:
                _reject(place, str(exc), report, rejected)
        return as_rows(events), places


def _account(writer: Writer, report: Report, rejected: RejectedFile) -> None:
    """Count what became of the batches that are done."""
    with uninterrupted():
        for stored in writer.taken():
            report.inserted += stored.inserted
            report.present += stored.present
            report.suppressed += stored.suppressed
            for place, reason in stored.refused:
                _reject(place, reason, report, rejected)


def _reject(place: Place, reason: str, report: Report, rejected: RejectedFile) -> None:
    with uninterrupted():
        report.rejected[reason] += 1
        rejected.write(place, reason)


def _shown(row: Any) -> str:
    if isinstance(row, bytes):
        return row[:_SHOWN].decode(errors="replace").rstrip("\r\n")
    text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
    return text[:_SHOWN].encode(errors="replace").decode()
