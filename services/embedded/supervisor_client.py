"""Client of the supervisor of embedded servers: joins the running process, or starts one."""

import fcntl
import logging
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import msgspec

from services.embedded.binaries import EmbeddedError, child_user
from services.embedded.data_dir import (
    ENDPOINTS,
    FAILURE,
    SUPERVISOR_LOCK,
    USERS,
    Endpoints,
    SupervisorConfig,
)

log = logging.getLogger("analytics.embedded")

_ROOT = Path(__file__).parents[2]
_POLL_EVERY_S = 1.0
_WARN_AFTER_S = 10.0
_MIN_FREE_BYTES = 16 * 2**20  # one segment of the write-ahead log, without which nothing starts


@contextmanager
def embedded_servers(
    data_dir: Path,
    *,
    postgres_bin: Path | None = None,
    postgres_options: Mapping[str, str] | None = None,
) -> Iterator[Endpoints]:
    """The URLs of the servers of a data directory.

    The first client starts the servers, and they stop after the last one. Only the first one's
    `postgres_bin`, a directory with other binaries of PostgreSQL, and `postgres_options` matter.

    Raises: EmbeddedError.
    """
    data_dir = data_dir.absolute()
    _prepare(data_dir)
    with (data_dir / USERS).open("wb") as users:
        # A supervisor that is stopping holds this lock exclusively: wait until it is gone.
        fcntl.flock(users, fcntl.LOCK_SH)
        other = str(postgres_bin) if postgres_bin else None
        config = SupervisorConfig(str(data_dir), other, dict(postgres_options or {}))
        with _watch_supervisor(config):
            yield _join_or_start(config)


def are_running(data_dir: Path) -> bool:
    """Whether the servers of this directory run and accept connections."""
    return (data_dir / ENDPOINTS).exists() and _has_supervisor(data_dir)


def _prepare(data_dir: Path) -> None:
    """Create the data directory, and check that the user of the servers has access to it.

    Raises: EmbeddedError.
    """
    new_directories = [
        directory for directory in (data_dir, *data_dir.parents) if not directory.exists()
    ]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        for directory in new_directories:  # the mode of existing directories is not changed
            directory.chmod(0o711 if child_user() else 0o700)
        (data_dir / USERS).touch()
    except OSError as exc:
        raise EmbeddedError(
            f"{data_dir} cannot be used as the data directory ({exc.strerror}): set "
            "ANALYTICS_DATA_DIR to a directory that can be written to"
        ) from exc
    closed = [
        directory
        for directory in (data_dir, *data_dir.parents)
        if not directory.stat().st_mode & 0o001
    ]
    if child_user() and closed:
        raise EmbeddedError(
            f"{closed[0]} is not accessible to the user nobody, as whom root runs the servers: "
            "set ANALYTICS_DATA_DIR to a directory elsewhere"
        )


@contextmanager
def _watch_supervisor(config: SupervisorConfig) -> Iterator[None]:
    """Start a new supervisor if the current one dies during the block."""
    is_cancelled = Event()

    def watch() -> None:
        while not is_cancelled.wait(_POLL_EVERY_S):
            with suppress(EmbeddedError, OSError):  # the next iteration tries again
                if (config.data_dir / ENDPOINTS).exists() and not _has_supervisor(config.data_dir):
                    _join_or_start(config, is_cancelled)

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_cancelled.set()
        thread.join()


def _join_or_start(config: SupervisorConfig, is_cancelled: Event | None = None) -> Endpoints:
    """The URLs of the servers, which are started if needed; `is_cancelled` ends the wait."""
    with (config.data_dir / "start.lock").open("wb") as start:
        # One client at a time decides whether to start a supervisor.
        fcntl.flock(start, fcntl.LOCK_EX)
        supervisor = None if _has_supervisor(config.data_dir) else _start(config)
        return _wait_for_endpoints(config.data_dir, supervisor, is_cancelled or Event())


def _has_supervisor(data_dir: Path) -> bool:
    """Whether a supervisor runs: it holds this lock as long as it lives."""
    with (data_dir / SUPERVISOR_LOCK).open("wb") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _start(config: SupervisorConfig) -> "subprocess.Popen[bytes]":
    """Start a supervisor process."""
    for stale in (ENDPOINTS, FAILURE):
        (config.data_dir / stale).unlink(missing_ok=True)
    with (config.data_dir / "keeper.log").open("wb") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "services.embedded.supervisor", msgspec.json.encode(config)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C in the terminal must reach the client alone, which then stops before the
            # servers do.
            start_new_session=True,
        )
    # Reap the supervisor if it ends before this process does: it would stay as a zombie.
    Thread(target=supervisor.wait, daemon=True).start()
    return supervisor


def _wait_for_endpoints(
    data_dir: Path, supervisor: "subprocess.Popen[bytes] | None", is_cancelled: Event
) -> Endpoints:
    """Wait until the servers accept connections. Raises: EmbeddedError."""
    # No timeout here: crash recovery may take long, and the supervisor gives up by itself if a
    # server does not respond.
    warn_at = time.monotonic() + _WARN_AFTER_S
    while not (data_dir / ENDPOINTS).exists():
        has_ended = supervisor.poll() is not None if supervisor else not _has_supervisor(data_dir)
        if has_ended or is_cancelled.is_set():
            raise EmbeddedError(f"the embedded servers did not start: {_reason(data_dir)}")
        if time.monotonic() > warn_at:
            log.warning("PostgreSQL is still starting: it may be recovering from a crash")
            warn_at = math.inf
        time.sleep(0.02)
    return msgspec.json.decode((data_dir / ENDPOINTS).read_bytes(), type=Endpoints)


def _reason(data_dir: Path) -> str:
    # On a full disk the supervisor could not write the reason either.
    if shutil.disk_usage(data_dir).free < _MIN_FREE_BYTES:
        return f"there is no room left on the disk of {data_dir}: free some space there"
    for name in (FAILURE, "keeper.log"):
        file = data_dir / name
        if file.exists() and (text := file.read_text(errors="replace").strip()):
            return text[-2000:]
    return "their supervisor process was killed"
