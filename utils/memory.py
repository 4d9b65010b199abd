"""The memory of the machine, or of the container that the process runs in."""

import os
from contextlib import suppress
from pathlib import Path

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_bytes(cgroup_limit: Path = _CGROUP_LIMIT) -> int:
    """Return how many bytes of memory there are, up to the limit of the control group."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # The file has the word `max` where there is no limit, and is absent on other systems.
    with suppress(OSError, ValueError):
        return min(physical, int(cgroup_limit.read_text()))
    return physical
