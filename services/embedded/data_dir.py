"""The data directory of the embedded servers: its files, and their permissions."""

import os
import secrets
import socket
from pathlib import Path

import msgspec

from repo.roles import ROLES, Role, role_name

ENDPOINTS = "endpoints.json"
FAILURE = "failure.txt"
USERS = "users.lock"
# The name must not change: a client has to find the running supervisor of an older version.
SUPERVISOR_LOCK = "keeper.lock"

DATABASE_NAME = "analytics"
"""The name of the database, and of its owner."""


class SupervisorConfig(msgspec.Struct, frozen=True):
    """The configuration that a client passes to the supervisor it starts."""

    directory: str
    postgres_bin: str | None
    postgres_options: dict[str, str]

    @property
    def data_dir(self) -> Path:
        return Path(self.directory)


class Databases(msgspec.Struct, frozen=True):
    """The URLs of PostgreSQL, as the owner and by role."""

    owner: str
    by_role: dict[str, str] = {}

    def url(self, role: Role) -> str:
        """The URL of a role; that of the owner if the role has none."""
        return self.by_role.get(role, self.owner)


class Endpoints(msgspec.Struct, frozen=True):
    """The URLs of the servers, including passwords."""

    database_url: str
    redis_url: str
    by_role: dict[str, str] = {}
    """Servers that another version started may have other roles."""

    @property
    def databases(self) -> Databases:
        return Databases(self.database_url, self.by_role)


class ServerAccess(msgspec.Struct, frozen=True):
    """Passwords and ports, which are kept from start to start."""

    postgres_password: str
    postgres_port: int
    valkey_password: str
    valkey_port: int
    role_passwords: dict[str, str] = {}


def load_access(data_dir: Path) -> ServerAccess:
    """The saved passwords and ports; a port that is taken by now is replaced by a free one."""
    file = data_dir / "places.json"
    saved = msgspec.json.decode(file.read_bytes(), type=ServerAccess) if file.exists() else None
    role_passwords = saved.role_passwords if saved else {}
    access = ServerAccess(
        saved.postgres_password if saved else secrets.token_hex(16),
        _free_port(saved.postgres_port if saved else 0),
        saved.valkey_password if saved else secrets.token_hex(16),
        _free_port(saved.valkey_port if saved else 0),
        {role: role_passwords.get(role) or secrets.token_hex(16) for role in ROLES},
    )
    write_private(file, msgspec.json.encode(access))
    return access


def write_private(file: Path, content: bytes) -> None:
    """Write a file atomically, readable by its owner only."""
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(content)
    partial.rename(file)


def endpoints(access: ServerAccess) -> Endpoints:
    """The URLs that these passwords and ports make."""

    def url(user: str, password: str) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{access.postgres_port}/{DATABASE_NAME}"

    return Endpoints(
        url(DATABASE_NAME, access.postgres_password),
        f"redis://:{access.valkey_password}@127.0.0.1:{access.valkey_port}/0",
        {role: url(role_name(role), access.role_passwords[role]) for role in ROLES},
    )


def _free_port(preferred: int) -> int:
    """The preferred port if it is free, else any free port."""
    with socket.socket() as probe:
        # Without this a port in TIME_WAIT, after a restart of the server, would count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return _free_port(0)
        port: int = probe.getsockname()[1]
        return port
