"""What lies in the folder of the embedded servers, and who may read it."""

import os
import secrets
import socket
from pathlib import Path

import msgspec

ENDPOINTS = "endpoints.json"
FAILURE = "failure.txt"
USERS = "users.lock"
KEEPER = "keeper.lock"

NAME = "analytics"
"""The database, and its owner."""


class Wanted(msgspec.Struct, frozen=True):
    """What a keeper is told by whoever starts it."""

    folder: str
    postgres_bin: str | None
    postgres_options: dict[str, str]

    @property
    def data_dir(self) -> Path:
        return Path(self.folder)


class Endpoints(msgspec.Struct, frozen=True):
    """Where the servers are, passwords included."""

    database_url: str
    redis_url: str


class Places(msgspec.Struct, frozen=True):
    """What stays the same from start to start."""

    postgres_password: str
    postgres_port: int
    valkey_password: str
    valkey_port: int


def places(data_dir: Path) -> Places:
    """Passwords made once, and ports that are kept while they are free."""
    file = data_dir / "places.json"
    known = msgspec.json.decode(file.read_bytes(), type=Places) if file.exists() else None
    found = Places(
        known.postgres_password if known else secrets.token_hex(16),
        _free_port(known.postgres_port if known else 0),
        known.valkey_password if known else secrets.token_hex(16),
        _free_port(known.valkey_port if known else 0),
    )
    write_private(file, msgspec.json.encode(found))
    return found


def write_private(file: Path, content: bytes) -> None:
    """All of it or nothing, readable by its owner alone."""
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as opened:
        opened.write(content)
    partial.rename(file)


def endpoints(found: Places) -> Endpoints:
    return Endpoints(
        f"postgresql://{NAME}:{found.postgres_password}@127.0.0.1:{found.postgres_port}/{NAME}",
        f"redis://:{found.valkey_password}@127.0.0.1:{found.valkey_port}/0",
    )


def _free_port(wanted: int) -> int:
    """The wanted port if nobody listens there, else any that is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return _free_port(0)
        port: int = probe.getsockname()[1]
        return port
