"""The rollup worker of `serve`: a process `python main.py rollup`, restarted when it ends."""

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.processes import DieWithParent

log = logging.getLogger("analytics.rollup")

_MAIN = Path(__file__).parents[1] / "main.py"
_RESTART_AFTER_S = 1.0
_STOP_TIMEOUT_S = 2.0


@contextmanager
def run_rollup_process(metrics: Path) -> Iterator[None]:
    """Run the process until the end of the block; it writes its metrics into the directory."""
    stopping = threading.Event()
    supervisor = threading.Thread(target=_supervise, args=(stopping, metrics), daemon=True)
    supervisor.start()
    try:
        yield
    finally:
        stopping.set()
        supervisor.join()


def _supervise(stopping: threading.Event, metrics: Path) -> None:
    while not stopping.is_set():
        try:
            _run(stopping, metrics)
        except (OSError, subprocess.SubprocessError) as exc:  # no memory, no file, no process left
            log.error("the rollup worker cannot be started", extra={"failure": str(exc)})
        stopping.wait(_RESTART_AFTER_S)


def _run(stopping: threading.Event, metrics: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(_MAIN), "rollup", "--metrics", str(metrics)],
        preexec_fn=DieWithParent(signal.SIGTERM),
        start_new_session=True,  # Ctrl-C goes to the service, which stops this process
    )
    while process.poll() is None and not stopping.is_set():
        stopping.wait(0.1)
    _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    # A fold is one transaction: killing it leaves nothing half done.
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
