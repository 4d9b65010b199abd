"""Child processes that end with their parent."""

import os
import signal
import subprocess
import sys

from tests.wait_until import wait_until
from utils.processes import DieWithParent

# The child starts a process of its own, says its id, and ends; the grandchild would sleep on.
CHILD = """
import signal, subprocess, sys
from utils.processes import DieWithParent
end = DieWithParent(signal.SIGKILL)
process = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, preexec_fn=end)
print(process.pid, flush=True)
"""


def test_a_child_ends_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE) as child:
        output, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    wait_until(lambda: not _is_running(int(output)), timeout_s=10)


def test_the_parent_is_the_process_that_created_it() -> None:
    assert DieWithParent(signal.SIGTERM) == DieWithParent(signal.SIGTERM, os.getpid())


def _is_running(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be reaped does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
