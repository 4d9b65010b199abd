"""Temporary directories for the servers of tests."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MEMORY = Path("/dev/shm")
_NEEDED = 4 * 2**30
_DAY_S = 86_400


@contextmanager
def temp_dir(name: str) -> Iterator[Path]:
    """A temporary directory. As root, servers run as nobody, so it is accessible to others."""
    path = Path(tempfile.mkdtemp(prefix=f"analytics-{name}-", dir=_parent_dir(name)))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _parent_dir(name: str) -> Path | None:
    """/dev/shm if it is large enough, since tests create hundreds of short-lived databases."""
    with suppress(OSError):
        if os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC or not os.access(_MEMORY, os.W_OK):
            return None
        for stale in _MEMORY.glob(f"analytics-{name}-*"):
            if time.time() - stale.stat().st_mtime > _DAY_S:  # left behind by a killed run
                shutil.rmtree(stale, ignore_errors=True)
        return _MEMORY if shutil.disk_usage(_MEMORY).free > _NEEDED else None
    return None
