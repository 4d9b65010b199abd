"""The workers of one service: each has a place of its own, and counts on where the last one left.

A place is a number and a locked file. The kernel unlocks it however a worker ends, so the worker
that replaces a killed one takes its place, and with it the files that its metrics are counted in.
The folder is that of one service, which holds a lock in it as well: what a killed service left
behind is removed by the next one.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

_MEMORY = Path("/dev/shm")
_PREFIX = "analytics-workers-"
_SERVICE = "service.lock"


@contextmanager
def slot_directory() -> Iterator[Path]:
    """A folder for the workers that are started within."""
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    descriptor = _create_locked(folder / _SERVICE)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _create_locked(file: Path) -> int:
    """It has its name only once it is locked: nobody can take it for abandoned."""
    partial = file.with_suffix(".new")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    partial.rename(file)
    return descriptor


def _remove_abandoned(parent: Path) -> None:
    """Folders of services of this user that are gone, with all of their workers."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another one removes it as well
            if _is_abandoned(folder):
                shutil.rmtree(folder)


def _is_abandoned(folder: Path) -> bool:
    """Raises: OSError."""
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        return False
    locks = [folder / _SERVICE, *folder.glob("place.*")]
    return all(map(_is_free, locks))


def acquire_slot(folder: Path) -> int:
    """The first place that is free, for as long as this process lives."""
    for slot in count():
        descriptor = os.open(_slot_file(folder, slot), os.O_RDWR | os.O_CREAT, 0o600)
        if _lock(descriptor):
            os.truncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            return slot
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
    """Raises: OSError."""
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


def _slot_file(folder: Path, slot: int) -> Path:
    return folder / f"place.{slot}"
