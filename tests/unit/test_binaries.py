"""The binaries of the embedded servers, and the user that runs them."""

import os
import pwd
from pathlib import Path

import pytest

from services.embedded.binaries import EmbeddedError, _package_dir, child_user, find_binaries


def test_servers_do_not_run_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    nobody = pwd.getpwnam("nobody")
    assert child_user() == {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert child_user() == {}


def test_the_binaries_of_the_packages_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = find_binaries(tmp_path, None)
    assert all((found.postgres / name).exists() for name in ("initdb", "postgres", "pg_isready"))
    assert found.valkey.name == "valkey-server"
    assert find_binaries(tmp_path, Path("/elsewhere")).postgres == Path("/elsewhere")
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(EmbeddedError, match="no_such_package is not installed: run"):
        _package_dir("no_such_package")
