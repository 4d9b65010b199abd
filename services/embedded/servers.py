"""How one PostgreSQL and one Valkey are made, started and stopped."""

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
from services.embedded.state_dir import DATABASE_NAME, ServerAccess, write_private
from utils.processes import DieWithParent

_READY_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 10
_LARGE_LOG = 10 * 2**20
State = Literal["ready", "at work", "away"]
_MAX_SOCKET_DIR_BYTES = 90  # a socket's path has room for 107 bytes on Linux, 103 on macOS

_POSTGRES = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements and the details of errors hold what users did.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
_VALKEY = """
bind 127.0.0.1
port {port}
requirepass {password}
dir {folder}
save ""
appendonly no
maxmemory 128mb
maxmemory-policy allkeys-lru
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that the keeper starts, watches, starts again and stops."""

    name: str
    command: list[str]
    log: Path
    probe: Callable[[], State]
    stop_signals: tuple[signal.Signals, ...]
    dies_by: signal.Signals
    """Sent by the kernel when the keeper dies, however it dies."""
    config: str = ""
    before_start: Callable[[], None] = lambda: None

    def start(self, is_wanted: Callable[[], bool] = lambda: True) -> "subprocess.Popen[bytes]":
        """Once it answers, or is not wanted any more. Raises: EmbeddedError."""
        self.before_start()
        self._rotate_large_log()
        with self.log.open("ab") as log:  # what is there may tell why it is started again
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
        except OSError:  # it could not be looked at, and nobody else would stop it
            self.stop(process)
            raise
        return process

    def stop(self, process: "subprocess.Popen[bytes]") -> None:
        """Ask politely, then less so."""
        for number in (*self.stop_signals, signal.SIGKILL):
            process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT_S)
                return

    def _wait_until_ready(
        self, process: "subprocess.Popen[bytes]", is_wanted: Callable[[], bool]
    ) -> None:
        """What recovers from a crash takes as long as it needs: ended, it would begin again."""
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
    """Raises: EmbeddedError when its folder cannot be made."""
    folder = data_dir / "postgres"
    if not (folder / "PG_VERSION").exists():
        _initialize(folder, binaries, access.postgres_password)
    settings = {**_POSTGRES, "port": str(access.postgres_port), **options}
    settings["unix_socket_directories"] = _socket_folder(folder)
    return Server(
        name="PostgreSQL",
        command=[
            str(binaries.postgres / "postgres"),
            "-D",
            str(folder),
            *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
        ],
        log=data_dir / "postgres.log",
        probe=lambda: _probe_postgres(binaries, access.postgres_port),
        stop_signals=(signal.SIGINT, signal.SIGQUIT),
        dies_by=signal.SIGINT,
        before_start=lambda: _wait_for_predecessor(folder),
    )


def valkey(data_dir: Path, binaries: Binaries, access: ServerAccess) -> Server:
    """Its configuration goes through a pipe: a command line shows its password to all."""
    folder = data_dir / "valkey"
    folder.mkdir(exist_ok=True)
    chown_to_child(folder)
    return Server(
        name="Valkey",
        command=[str(binaries.valkey), "-"],
        log=data_dir / "valkey.log",
        probe=lambda: _probe_valkey(access.valkey_port),
        stop_signals=(signal.SIGTERM,),
        dies_by=signal.SIGTERM,
        config=_VALKEY.format(
            port=access.valkey_port, password=access.valkey_password, folder=folder
        ),
    )


def _initialize(folder: Path, binaries: Binaries, password: str) -> None:
    """Made under another name: what a crash leaves half done is never taken for whole."""
    partial = folder.with_name("postgres.new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    chown_to_child(partial)
    secret = folder.with_name("postgres.password")
    write_private(secret, password.encode())
    chown_to_child(secret)
    initdb = [str(binaries.postgres / "initdb"), "-D", str(partial), "-U", DATABASE_NAME]
    options = ["--auth=scram-sha-256", "--encoding=UTF8", f"--pwfile={secret}"]
    _run([*initdb, *options, *_locale(binaries)], "")
    secret.unlink()
    postgres = [str(binaries.postgres / "postgres"), "--single", "-D", str(partial), "postgres"]
    _run(postgres, f"create database {DATABASE_NAME}\n")
    partial.rename(folder)


def _locale(binaries: Binaries) -> list[str]:
    """The order of bytes, the same everywhere; PostgreSQL has it built in from 17 on."""
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


def _socket_folder(folder: Path) -> str:
    return str(folder) if len(os.fsencode(folder)) <= _MAX_SOCKET_DIR_BYTES else ""


def _wait_for_predecessor(folder: Path) -> None:
    """A postmaster that was killed leaves its file, and its last children the shared memory."""
    file = folder / "postmaster.pid"
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while file.exists() and _runs(file.read_text().split()[:1], folder):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"another PostgreSQL uses {folder}: stop it, and try again")
        time.sleep(0.05)
    if file.exists() and not file.read_text().strip():
        file.unlink()  # of a start that a crash cut short; PostgreSQL would leave it to people


def _runs(pids: list[str], folder: Path) -> bool:
    """Whether it is a server of this folder; after a crash its number may be another's by now."""
    if not pids:
        return False
    entry = Path("/proc") / pids[0]
    with suppress(OSError):
        is_ours = str(folder).encode() in (entry / "cmdline").read_bytes()
        return is_ours and " Z " not in (entry / "stat").read_text()
    return False


def _probe_postgres(binaries: Binaries, port: int) -> State:
    """It listens before it lets anybody in."""
    command = [str(binaries.postgres / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    states: dict[int, State] = {0: "ready", 1: "at work"}
    return states.get(subprocess.run(command).returncode, "away")


def _probe_valkey(port: int) -> State:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return "ready"
    return "away"
