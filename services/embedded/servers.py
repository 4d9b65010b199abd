"""The embedded servers: how PostgreSQL and Valkey are initialized, started and stopped."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services.embedded.binaries import Binaries, EmbeddedError, child_user, chown_to_child
from services.embedded.data_dir import DATABASE_NAME, ServerAccess, write_private
from utils.processes import DieWithParent

_READY_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 10
_LARGE_LOG = 10 * 2**20
State = Literal["ready", "at work", "unreachable"]
_MAX_SOCKET_DIR_BYTES = 90  # the path of a socket has at most 107 bytes on Linux, 103 on macOS

_POSTGRES = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements, and the details of errors, contain personal data.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
_VALKEY = """
bind 127.0.0.1
port {port}
requirepass {password}
dir {directory}
save ""
appendonly no
maxmemory 128mb
maxmemory-policy allkeys-lru
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that the supervisor starts, watches, restarts and stops."""

    name: str
    command: list[str]
    log: Path
    probe: Callable[[], State]
    stop_signals: tuple[signal.Signals, ...]
    dies_by: signal.Signals
    """The signal that the kernel sends when the supervisor dies, even if killed."""
    config: str = ""
    before_start: Callable[[], None] = lambda: None

    def start(self, is_wanted: Callable[[], bool] = lambda: True) -> "subprocess.Popen[bytes]":
        """Start the server, and wait until it is ready or `is_wanted` returns false.

        Raises: EmbeddedError.
        """
        self.before_start()
        self._rotate_large_log()
        with self.log.open("ab") as log:  # appended: older lines may explain a restart
            process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=DieWithParent(self.dies_by),
                start_new_session=True,
                **child_user(),
            )
        assert process.stdin is not None
        with process.stdin as config:
            config.write(self.config.encode())
        try:
            self._wait_until_ready(process, is_wanted)
        except OSError:  # the probe failed: without this the process would be left running
            self.stop(process)
            raise
        return process

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """Send the stop signals one after another, and SIGKILL at last, 10 s apart."""
        for number in (*self.stop_signals, signal.SIGKILL):
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT_S)
                return

    def _wait_until_ready(
        self, process: "subprocess.Popen[bytes]", is_wanted: Callable[[], bool]
    ) -> None:
        # A server in crash recovery extends the deadline: a restart would begin the recovery anew.
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while (state := self.probe()) != "ready" and is_wanted():
            if state == "at work":
                deadline = time.monotonic() + _READY_TIMEOUT_S
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise EmbeddedError(
                    f"{self.name} did not start; its log ends with:\n{self._tail()}"
                )
            time.sleep(0.02)

    def _rotate_large_log(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LARGE_LOG:
            self.log.replace(f"{self.log}.before")

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])


def postgres(
    data_dir: Path, binaries: Binaries, access: ServerAccess, options: Mapping[str, str]
) -> Server:
    """The embedded PostgreSQL, whose data directory is initialized if needed.

    Raises: EmbeddedError.
    """
    directory = data_dir / "postgres"
    if not (directory / "PG_VERSION").exists():
        _initialize(directory, binaries, access.postgres_password)
    settings = {**_POSTGRES, "port": str(access.postgres_port), **options}
    settings["unix_socket_directories"] = _socket_dir(directory)
    return Server(
        name="PostgreSQL",
        command=[
            str(binaries.postgres / "postgres"),
            "-D",
            str(directory),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ],
        log=data_dir / "postgres.log",
        probe=lambda: _probe_postgres(binaries, access.postgres_port),
        stop_signals=(signal.SIGINT, signal.SIGQUIT),
        dies_by=signal.SIGINT,
        before_start=lambda: _wait_for_predecessor(directory),
    )


def valkey(data_dir: Path, binaries: Binaries, access: ServerAccess) -> Server:
    """The embedded Valkey."""
    directory = data_dir / "valkey"
    directory.mkdir(exist_ok=True)
    chown_to_child(directory)
    return Server(
        name="Valkey",
        # The configuration is read from standard input: every user can see a command line, and
        # this one would contain the password.
        command=[str(binaries.valkey), "-"],
        log=data_dir / "valkey.log",
        probe=lambda: _probe_valkey(access.valkey_port),
        stop_signals=(signal.SIGTERM,),
        dies_by=signal.SIGTERM,
        config=_VALKEY.format(
            port=access.valkey_port, password=access.valkey_password, directory=directory
        ),
    )


def _initialize(directory: Path, binaries: Binaries, password: str) -> None:
    """Create the data directory of PostgreSQL, with the database. Raises: EmbeddedError."""
    # Renamed once it is complete, so that a crash leaves no half-initialized directory behind.
    partial = directory.with_name("postgres.new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    chown_to_child(partial)
    secret = directory.with_name("postgres.password")
    write_private(secret, password.encode())
    chown_to_child(secret)
    initdb = [str(binaries.postgres / "initdb"), "-D", str(partial), "-U", DATABASE_NAME]
    options = ["--auth=scram-sha-256", "--encoding=UTF8", f"--pwfile={secret}"]
    _run([*initdb, *options, *_locale(binaries)], "")
    secret.unlink()
    # Single-user mode creates the database without a running server.
    postgres = [str(binaries.postgres / "postgres"), "--single", "-D", str(partial), "postgres"]
    _run(postgres, f"create database {DATABASE_NAME}\n")
    partial.rename(directory)


def _locale(binaries: Binaries) -> list[str]:
    """Arguments of initdb for a locale that sorts by bytes, on every platform.

    The built-in provider exists from PostgreSQL 17 on.
    """
    help_text = _run([str(binaries.postgres / "initdb"), "--help"], "")
    if "--builtin-locale" in help_text:
        return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C.UTF-8"]


def _run(command: list[str], stdin_text: str) -> str:
    result: subprocess.CompletedProcess[bytes] = subprocess.run(
        command,
        input=stdin_text.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        **child_user(),
    )
    if result.returncode:
        tail = result.stdout.decode(errors="replace").strip()[-1000:]
        raise EmbeddedError(f"{Path(command[0]).name} failed: {tail}")
    return result.stdout.decode()


def _socket_dir(directory: Path) -> str:
    # Without a socket if its path would be too long: clients connect over TCP anyway.
    return str(directory) if len(os.fsencode(directory)) <= _MAX_SOCKET_DIR_BYTES else ""


def _wait_for_predecessor(directory: Path) -> None:
    """Wait until no other PostgreSQL uses the directory.

    After a postmaster was killed, its children still use the shared memory for a moment.

    Raises: EmbeddedError.
    """
    file = directory / "postmaster.pid"
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while file.exists() and _runs(file.read_text().split()[:1], directory):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"another PostgreSQL uses {directory}: stop it, and try again")
        time.sleep(0.05)
    # An empty file is left by a crash during startup. PostgreSQL refuses to start until it is
    # deleted.
    if file.exists() and not file.read_text().strip():
        file.unlink()


def _runs(pids: list[str], directory: Path) -> bool:
    """Whether the process is a server of this directory. Its id may be reused after a crash."""
    if not pids:
        return False
    entry = Path("/proc") / pids[0]
    with suppress(OSError):
        # Field 3 of `stat` is the state; Z is a zombie, which uses nothing any more.
        is_ours = str(directory).encode() in (entry / "cmdline").read_bytes()
        return is_ours and " Z " not in (entry / "stat").read_text()
    return False


def _probe_postgres(binaries: Binaries, port: int) -> State:
    # An open port is not enough: during recovery PostgreSQL listens, but rejects connections.
    command = [str(binaries.postgres / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    states: dict[int, State] = {0: "ready", 1: "at work"}
    return states.get(subprocess.run(command).returncode, "unreachable")


def _probe_valkey(port: int) -> State:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return "ready"
    return "unreachable"
