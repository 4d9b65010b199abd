"""How a program comes to use the embedded servers: it joins a keeper, or starts one."""

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
from services.embedded.state_dir import (
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
_MIN_FREE_BYTES = 16 * 2**20
"""Bytes of a segment of PostgreSQL's write-ahead log."""


@contextmanager
def embedded_servers(
    data_dir: Path,
    *,
    postgres_bin: Path | None = None,
    postgres_options: Mapping[str, str] | None = None,
) -> Iterator[Endpoints]:
    """The servers of this folder, started if nobody uses them yet; they stop with the last user.

    `postgres_bin` is a folder of other PostgreSQL programs; it and `postgres_options` count for
    whoever starts the servers. Raises: EmbeddedError.
    """
    data_dir = data_dir.absolute()
    _prepare(data_dir)
    with (data_dir / USERS).open("wb") as users:
        fcntl.flock(users, fcntl.LOCK_SH)  # waits for servers that are just being stopped
        other = str(postgres_bin) if postgres_bin else None
        config = SupervisorConfig(str(data_dir), other, dict(postgres_options or {}))
        with _watch_supervisor(config):
            yield _join_or_start(config)


def are_running(data_dir: Path) -> bool:
    """Whether the servers of this folder run and can be used."""
    return (data_dir / ENDPOINTS).exists() and _has_supervisor(data_dir)


def _prepare(data_dir: Path) -> None:
    """As root the folders on the way must be open to the servers' user, and ours is made so."""
    new_folders = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        for folder in new_folders:  # the mode of what others made is theirs
            folder.chmod(0o711 if child_user() else 0o700)
        (data_dir / USERS).touch()
    except OSError as exc:
        raise EmbeddedError(
            f"{data_dir} cannot be used for data ({exc.strerror}): set ANALYTICS_DATA_DIR"
        ) from exc
    closed = [
        folder for folder in (data_dir, *data_dir.parents) if not folder.stat().st_mode & 0o001
    ]
    if child_user() and closed:
        raise EmbeddedError(
            f"{closed[0]} is closed to the user nobody, whom root runs the servers as: "
            "set ANALYTICS_DATA_DIR to a folder elsewhere"
        )


@contextmanager
def _watch_supervisor(config: SupervisorConfig) -> Iterator[None]:
    """A keeper that dies is replaced for as long as its servers are used."""
    is_cancelled = Event()

    def watch() -> None:
        while not is_cancelled.wait(_POLL_EVERY_S):
            with suppress(EmbeddedError, OSError):  # it is tried again
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
    """`left`: nobody wants them any more."""
    with (config.data_dir / "start.lock").open("wb") as start:
        fcntl.flock(start, fcntl.LOCK_EX)  # one at a time decides whether to start a keeper
        supervisor = None if _has_supervisor(config.data_dir) else _start(config)
        return _wait_for_endpoints(config.data_dir, supervisor, is_cancelled or Event())


def _has_supervisor(data_dir: Path) -> bool:
    """A keeper holds its lock as long as it lives."""
    with (data_dir / SUPERVISOR_LOCK).open("wb") as lock_file:
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _start(config: SupervisorConfig) -> "subprocess.Popen[bytes]":
    """In a session of its own: Ctrl-C in the terminal is for the program, which stops first."""
    for stale in (ENDPOINTS, FAILURE):
        (config.data_dir / stale).unlink(missing_ok=True)
    with (config.data_dir / "keeper.log").open("wb") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "services.embedded.supervisor", msgspec.json.encode(config)],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    Thread(
        target=supervisor.wait, daemon=True
    ).start()  # it may outlive us, and is no zombie if not
    return supervisor


def _wait_for_endpoints(
    data_dir: Path, supervisor: "subprocess.Popen[bytes] | None", is_cancelled: Event
) -> Endpoints:
    """The keeper gives up by itself when a server is away for long; a recovery may take long."""
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
    if shutil.disk_usage(data_dir).free < _MIN_FREE_BYTES:  # then nobody could write down why
        return f"there is no room left on the disk of {data_dir}: free some there"
    for name in (FAILURE, "keeper.log"):
        file = data_dir / name
        if file.exists() and (text := file.read_text(errors="replace").strip()):
            return text[-2000:]
    return "the process that starts them was ended"
