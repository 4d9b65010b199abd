"""Small disks in memory (tmpfs), which tests really fill. Needs root."""

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
    """A directory on a disk of its own that the user of the servers can access."""
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
    """The free bytes of a disk."""
    return shutil.disk_usage(folder).free


def fill(folder: Path) -> Path:
    """Create a file that takes all free space, as another program might."""
    file = folder / "of-another-program"
    with suppress(OSError), file.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 65_536)
    return file
