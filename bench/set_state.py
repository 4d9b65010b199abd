"""Descriptions of what a folder of the benchmark holds: the event set, and perhaps a folded copy.

Each file is written last, so a set or a copy without it is incomplete.
"""

from pathlib import Path

import msgspec

from bench.event_set import VERSION
from repo.migrate import migrations

_SET = "set.json"
_COPY = "copy.json"


class Description(msgspec.Struct, frozen=True):
    """The version and size of a stored set."""

    events: int
    version: int = 1
    """The `VERSION` of the events."""
    used_up: bool = False
    """Whether PostgreSQL's part of the set became the folded copy."""


class FoldedCopy(msgspec.Struct, frozen=True):
    """A copy of the set that is folded into rollups and columns."""

    events: int
    version: int
    migrations: list[str]
    """The checksums of the migrations of its schema."""


def described_set(folder: Path) -> Description | None:
    file = folder / _SET
    return msgspec.json.decode(file.read_bytes(), type=Description) if file.exists() else None


def describe_set(folder: Path, events: int, *, used_up: bool = False) -> None:
    (folder / _SET).write_bytes(msgspec.json.encode(Description(events, VERSION, used_up)))


def forget_set(folder: Path) -> None:
    (folder / _SET).unlink(missing_ok=True)


def has_folded_copy(folder: Path, events: int) -> bool:
    """Whether the folder has a folded copy with the schema of this program."""
    file = folder / _COPY
    return file.exists() and (
        msgspec.json.decode(file.read_bytes(), type=FoldedCopy) == _copy_of(events)
    )


def describe_copy(folder: Path, events: int) -> None:
    (folder / _COPY).write_bytes(msgspec.json.encode(_copy_of(events)))


def forget_copy(folder: Path) -> None:
    (folder / _COPY).unlink(missing_ok=True)


def has_set(folder: Path, events: int, *, copy_suffices: bool) -> bool:
    """Whether the folder has the set of these events, or what remains of it beside a folded copy.

    Raises: AssertionError if it has a set of another number of events.
    """
    description = described_set(folder)
    assert description is None or description.events == events, (
        f"{folder} holds {description.events:,} events: set BENCH_DIR"
    )
    if description is None or description.version != VERSION:
        return False
    return not description.used_up or (copy_suffices and has_folded_copy(folder, events))


def _copy_of(events: int) -> FoldedCopy:
    return FoldedCopy(events, VERSION, [migration.checksum for migration in migrations()])
