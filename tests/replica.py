"""Creates and runs replicas of a test server, on loopback."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT

import psycopg2
from psycopg2.extensions import parse_dsn

from services.embedded.binaries import child_user, chown_to_child, find_binaries
from tests.wait_until import wait_until
from utils.processes import DieWithParent

_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # A replica needs at least as many as its primary.
    "max_connections": "60",
    "max_prepared_transactions": "4",
    "fsync": "off",
    "wal_retrieve_retry_interval": "100ms",
    "timezone": "Pacific/Auckland",
}


@dataclass(frozen=True)
class PostgresServer:
    """A server over a data directory, which tests start and stop."""

    binaries: Path
    folder: Path
    port: int

    def url(self, like: str) -> str:
        """The URL of the same user and database on this server."""
        parts = parse_dsn(like)
        login = f"{parts['user']}:{parts['password']}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{parts['dbname']}"

    @contextmanager
    def running(self, like: str, **options: str) -> Iterator[str]:
        """Run the server; yields its URL once it answers."""
        settings = {**_OPTIONS, "port": str(self.port), **options}
        with (self.folder.parent / f"{self.folder.name}.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    str(self.binaries / "postgres"),
                    "-D",
                    str(self.folder),
                    *(
                        part
                        for name, value in settings.items()
                        for part in ("-c", f"{name}={value}")
                    ),
                ],
                stdout=log,
                stderr=log,
                preexec_fn=DieWithParent(SIGINT),
                **child_user(),
            )
        try:
            wait_until(lambda: _answers(self.url(like)), timeout_s=20)
            yield self.url(like)
        finally:
            process.send_signal(SIGINT)
            process.wait(20)


def postgres_programs(folder: Path) -> Path:
    """The directory of the PostgreSQL programs that this data directory uses."""
    return find_binaries(folder, None).postgres


def copy_of(url: str, folder: Path, name: str, binaries: Path) -> PostgresServer:
    """Create a replica of a server, without starting it."""
    replica_dir = folder / name
    replica_dir.mkdir()
    chown_to_child(replica_dir)
    command = [
        str(binaries / "pg_basebackup"),
        "--dbname",
        url,
        "--pgdata",
        str(replica_dir / "data"),
    ]
    more = ["--wal-method=stream", "--checkpoint=fast", "--write-recovery-conf", "--no-sync"]
    subprocess.run([*command, *more], check=True, capture_output=True, cwd="/", **child_user())
    return PostgresServer(binaries, replica_dir / "data", free_port())


@contextmanager
def replica_of(url: str, folder: Path, name: str = "replica", **options: str) -> Iterator[str]:
    """Run a replica until the end of the block; yields its URL."""
    server = copy_of(url, folder, name, postgres_programs(folder))
    try:
        with server.running(url, **options) as running:
            yield running
    finally:
        shutil.rmtree(server.folder.parent, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    with suppress(psycopg2.OperationalError):
        psycopg2.connect(url).close()
        return True
    return False


@contextmanager
def postgres_owned_dir(name: str) -> Iterator[Path]:
    """A temporary directory that the user of PostgreSQL can use."""
    path = Path(tempfile.mkdtemp(prefix=f"analytics-{name}-"))
    path.chmod(0o711)
    chown_to_child(path)
    yield path
    shutil.rmtree(path, ignore_errors=True)
