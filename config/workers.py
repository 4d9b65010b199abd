"""The workers of one service: each has a place of its own, and counts on where the last one left.

A place is a number and a locked file. The kernel unlocks it however a worker ends, so the worker
that replaces a killed one takes its place, and with it the files that its metrics are counted in.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_MEMORY = Path("/dev/shm")


@contextmanager
def places() -> Iterator[Path]:
    """A folder for the workers that are started within."""
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="analytics-workers-", dir=parent))
    os.environ[_VARIABLE] = str(folder)
    try:
        yield folder
    finally:
        del os.environ[_VARIABLE]
        shutil.rmtree(folder, ignore_errors=True)


def folder_of_places() -> Path | None:
    """The folder, in a worker."""
    found = os.environ.get(_VARIABLE)
    return Path(found) if found else None


def take_place(folder: Path) -> int:
    """The first place that is free, for as long as this process lives."""
    for place in count():
        descriptor = os.open(_file(folder, place), os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(descriptor):
            os.truncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            return place
        os.close(descriptor)
    raise AssertionError


def workers(folder: Path) -> dict[int, int]:
    """The process of each place that is taken."""
    return {
        int(file.suffix[1:]): int(file.read_text() or 0)
        for file in folder.glob("place.*")
        if not _is_free(file)
    }


def _is_free(file: Path) -> bool:
    descriptor = os.open(file, os.O_RDWR)
    try:
        return _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _file(folder: Path, place: int) -> Path:
    return folder / f"place.{place}"
