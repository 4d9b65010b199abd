"""Small disks, in memory: what fills them is real, and so is what becomes of it. Needs root."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MB = 10**6


@contextmanager
def small_disk(size_mb: int) -> Iterator[Path]:
    """A folder on a disk of its own that the servers' user can reach."""
    assert os.geteuid() == 0, "only root can mount a small disk: run this as root"
    folder = Path(tempfile.mkdtemp(prefix="analytics-disk-"))
    options = f"size={size_mb}m,mode=0711"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


def enlarge(folder: Path, size_mb: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size_mb}m", folder], check=True)


def free(folder: Path) -> int:
    """Bytes."""
    return shutil.disk_usage(folder).free


def fill(folder: Path) -> Path:
    """Another program's file, which takes all that is free at this moment."""
    file = folder / "of-another-program"
    with suppress(OSError), file.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 65_536)
    return file
