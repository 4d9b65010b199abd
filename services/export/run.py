"""Export: bring the files of a directory up to the events of the database.

A day is written again if it has new events, or if its number of events differs from its file, as
after an erasure. If a run is killed, the manifest still describes the last complete files, and the
next run finds the rest.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import msgspec

from repo.export import DatabaseDays, EventRow, ExportRepo
from services.export.files import (
    file_of,
    opened_directory,
    put_in_place,
    remove_day,
    remove_leftovers,
    write_aside,
)
from services.export.manifest import (
    ExportedDay,
    Manifest,
    ManifestError,
    read_manifest,
    write_manifest,
)

_MANIFEST_EVERY_S = 10.0


class CannotExport(Exception):
    """The directory cannot be used; the message says why, and what to do."""


@dataclass(slots=True)
class ExportCounts:
    """The progress of a run."""

    written: int = 0
    """Days whose files were written or replaced."""
    events: int = 0
    """Events in these files."""
    unchanged: int = 0
    removed: int = 0
    """Days that have no events any more."""


class Export:
    """One run of an export."""

    def __init__(self, repo: ExportRepo, directory: Path, *, is_full: bool) -> None:
        """`is_full`: read every day, also if the directory has an export of another database."""
        self._repo = repo
        self._directory = directory
        self._is_full = is_full
        self._days: dict[date, ExportedDay] = {}
        self.counts = ExportCounts()

    def run(self, begin: Callable[[int], None], add: Callable[[int], None]) -> None:
        """Update the directory. `begin` is called with the number of events to read, `add` with
        that of events that were read.

        Raises: CannotExport, OSError, DatabaseUnavailable.
        """
        with _locked(self._directory):
            manifest = self._read_manifest()
            since = None if manifest is None or self._is_full else manifest.snapshot
            found = self._repo.get_days(since)
            if manifest is None:
                manifest = Manifest(found.database, found.snapshot)
                write_manifest(self._directory, manifest)
            self._check_database(manifest, found)
            self._days = {day.day: day for day in manifest.days}
            remove_leftovers(self._directory, self._days)
            self._remove(found)
            changed = [day for day in found.counts if self._is_changed(day, found)]
            self.counts.unchanged = len(found.counts) - len(changed)
            begin(sum(found.counts[day] for day in changed))
            self._write(changed, manifest, add)
            self._write_manifest(Manifest(found.database, found.snapshot))

    def _read_manifest(self) -> Manifest | None:
        """Raises: CannotExport, OSError."""
        try:
            manifest = read_manifest(self._directory)
        except ManifestError as exc:
            raise CannotExport(str(exc)) from None
        if manifest is None and any(self._directory.glob("[!.]*")):
            raise CannotExport(f"{self._directory} has other files: export to an empty directory")
        return manifest

    def _check_database(self, manifest: Manifest, found: DatabaseDays) -> None:
        """Raises: CannotExport."""
        if manifest.database != found.database and not self._is_full:
            raise CannotExport(
                f"{self._directory} has an export of another database, or of this one before a "
                "restore or failover: export to an empty directory, or compare all days with --full"
            )

    def _is_changed(self, day: date, found: DatabaseDays) -> bool:
        exported = self._days.get(day)
        return (
            exported is None
            or day in found.new
            or exported.rows != found.counts[day]
            or not self._is_intact(exported)
        )

    def _is_intact(self, exported: ExportedDay) -> bool:
        try:
            return (self._directory / exported.file).stat().st_size == exported.bytes
        except FileNotFoundError:
            return False

    def _remove(self, found: DatabaseDays) -> None:
        for day in self._days.keys() - found.counts.keys():
            remove_day(self._directory, day)
            del self._days[day]
            self.counts.removed += 1

    def _write(self, changed: list[date], manifest: Manifest, add: Callable[[int], None]) -> None:
        """Write days; the manifest keeps the snapshot of the last complete run meanwhile."""
        stored_at = time.monotonic()
        for day in changed:
            self._write_day(day, add)
            if time.monotonic() - stored_at > _MANIFEST_EVERY_S:
                self._write_manifest(manifest)
                stored_at = time.monotonic()

    def _write_day(self, day: date, add: Callable[[int], None]) -> None:
        written = write_aside(self._directory, day, _counted(self._repo.read_day(day), add))
        before = self._days.get(day)
        if not written.rows:  # its events have been removed meanwhile
            remove_day(self._directory, day)
            self._days.pop(day, None)
        elif before and before.sha256 == written.sha256 and self._is_intact(before):
            written.aside.unlink()
            self.counts.unchanged += 1
        else:
            put_in_place(self._directory, day, written)
            version = before.version + 1 if before else 1
            self._days[day] = ExportedDay(day, file_of(day), version, *written[1:])
            self.counts.written += 1
            self.counts.events += written.rows

    def _write_manifest(self, manifest: Manifest) -> None:
        days = tuple(self._days[day] for day in sorted(self._days))
        write_manifest(self._directory, msgspec.structs.replace(manifest, days=days))


def _counted(
    parts: Iterator[list[EventRow]], add: Callable[[int], None]
) -> Iterator[list[EventRow]]:
    for part in parts:
        yield part
        add(len(part))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other exports out of the directory, which is created. Raises: CannotExport, OSError."""
    directory.mkdir(parents=True, exist_ok=True)
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
        raise CannotExport(
            f"this user may not write to {directory}: export to another directory, or run the "
            "command as the owner of this one"
        )
    with opened_directory(directory) as number:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotExport(f"another export writes to {directory}") from None
        yield
