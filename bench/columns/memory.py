"""The memory of the service's workers while they hold columns."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from bench.wide.questions import QUESTIONS
from bench.wide.systems import WideService

_FIELDS = ("Rss", "Pss", "Private_Dirty")


def worker_memory(port: int) -> dict[str, float]:
    """Return the memory of a worker in MB, on average, after questions about all columns and days.

    `Pss` divides pages by the number of processes that share them.
    """
    WideService(port).warm_up(QUESTIONS)
    workers = [_memory(pid) for pid in _descendants(os.getpid()) if _has_columns(pid)]
    assert workers, "no process has mapped columns"
    figures = {
        f"worker_{name.lower()}_mb": mean(worker[name] for worker in workers) for name in _FIELDS
    }
    return {"workers": len(workers), **figures}


def _memory(pid: int) -> dict[str, float]:
    """The memory of a process in MB, by field."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = dict(re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE))
    return {name: int(sizes[name]) / 1024 for name in _FIELDS}


def _has_columns(pid: int) -> bool:
    try:
        return ".arrow" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # the process has ended
        return False


def _descendants(pid: int) -> Iterator[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:  # the process has ended
            continue
        children[int(fields[1])].append(int(file.parent.name))
    pending = [pid]
    while pending:
        listed = children[pending.pop()]
        yield from listed
        pending += listed
