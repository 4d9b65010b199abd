"""The manifest of an export: which days its files hold, and which version of each."""

import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

import msgspec

from services.export.files import sync_directory

MANIFEST = "_manifest.json"
"""Spark, DuckDB and others skip files whose names begin with an underscore."""


class ManifestError(Exception):
    """The manifest cannot be used; the message says why, and what to do."""


class ExportedDay(msgspec.Struct, frozen=True):
    """A UTC day and its file."""

    day: date
    file: str
    version: int
    """1 for the first file of the day, and one more for each that replaces it."""
    rows: int
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """The content of an export."""

    database: str
    """The identity of the database."""
    snapshot: str
    """All events that it sees are in the files, if they were not removed since."""
    days: tuple[ExportedDay, ...] = ()
    exported_at: datetime | None = None
    format: Literal[1] = 1


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest in a directory; None if there is none. Raises: ManifestError, OSError."""
    file = directory / MANIFEST
    try:
        return msgspec.json.decode(file.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise ManifestError(
            f"{file} is not a manifest that this version can read: export to an empty directory"
        ) from None


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest; after a crash there is the old one or the new one. Raises: OSError."""
    manifest = msgspec.structs.replace(manifest, exported_at=datetime.now(UTC))
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    aside = directory / f".{MANIFEST}"
    with aside.open("wb") as file:
        file.write(text + b"\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(directory / MANIFEST)
    sync_directory(directory)
