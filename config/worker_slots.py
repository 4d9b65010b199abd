"""Slots of worker processes, which let a replaced worker continue the metrics of the last one.

A slot is a number with a locked file. The kernel releases the lock when the worker ends, even if
it was killed, so its replacement gets the same slot, and with it the files of its metrics. The
directory of the slots belongs to one service, which also holds a lock in it. The next service
deletes directories that a killed one has left behind. The directory of cached columns is of the
same kind.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

_MEMORY = Path("/dev/shm")  # in memory: metrics are written with each request
_PREFIX = "analytics-workers-"
_COLUMN_PREFIX = "analytics-columns-"
_SERVICE = "service.lock"


@contextmanager
def slot_directory() -> Iterator[Path]:
    """A directory for the slots of the workers that are started in the block."""
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    with _service_directory(_PREFIX, parent) as directory:
        yield directory


@contextmanager
def column_directory() -> Iterator[Path | None]:
    """A directory on disk for cached columns, which only this user can read.

    None if there can be none, such as on a full disk.
    """
    with ExitStack() as stack:
        directory = None
        with suppress(OSError):
            parent = Path(tempfile.gettempdir())
            directory = stack.enter_context(_service_directory(_COLUMN_PREFIX, parent))
        yield directory


@contextmanager
def _service_directory(prefix: str, parent: Path) -> Iterator[Path]:
    """A directory of mode 0700 that exists during the block. Raises: OSError."""
    _remove_abandoned(parent, prefix)
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    descriptor = _create_locked(directory / _SERVICE)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def _create_locked(file: Path) -> int:
    """Create a locked file. Returns its descriptor, which holds the lock."""
    # Renamed once it is locked: otherwise another service could take the directory for abandoned.
    partial = file.with_suffix(".new")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    partial.rename(file)
    return descriptor


def _remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the directories of services of this user that have ended, with all their workers."""
    for directory in parent.glob(f"{prefix}*"):
        with suppress(OSError):  # another service may remove it at the same time
            if _is_abandoned(directory):
                shutil.rmtree(directory)


def _is_abandoned(directory: Path) -> bool:
    """Whether no process holds a lock in the directory. Raises: OSError."""
    # The parent is shared by all users: a directory of this name may be that of another user, or a
    # symbolic link that leads elsewhere.
    if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
        return False
    locks = [directory / _SERVICE, *directory.glob("place.*")]
    return all(map(_is_free, locks))


def acquire_slot(directory: Path) -> int:
    """Take the first free slot until this process ends, and return its number."""
    for slot in count():
        descriptor = os.open(_slot_file(directory, slot), os.O_RDWR | os.O_CREAT, 0o600)
        # The descriptor stays open, since closing it would release the lock.
        if _lock(descriptor):
            os.truncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            return slot
        os.close(descriptor)
    raise AssertionError


def workers(directory: Path) -> dict[int, int]:
    """The process id of each slot that is in use."""
    return {
        int(file.suffix[1:]): int(file.read_text() or 0)
        for file in directory.glob("place.*")
        if not _is_free(file)
    }


def _is_free(file: Path) -> bool:
    """Whether no process holds the lock of a file. Raises: OSError."""
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


def _slot_file(directory: Path, slot: int) -> Path:
    return directory / f"place.{slot}"
