"""The files of the data directory: passwords and ports are kept, and only we may read them."""

import socket
from pathlib import Path

from repo.roles import ROLES
from services.embedded.data_dir import Databases, endpoints, load_access, write_private


def test_passwords_and_ports_are_kept(tmp_path: Path) -> None:
    first = load_access(tmp_path)
    assert load_access(tmp_path) == first
    assert set(first.role_passwords) == set(ROLES)
    passwords = {first.postgres_password, first.valkey_password, *first.role_passwords.values()}
    assert len(passwords) == 2 + len(ROLES)


def test_a_port_that_is_in_use_is_replaced(tmp_path: Path) -> None:
    first = load_access(tmp_path)
    with socket.create_server(("127.0.0.1", first.postgres_port)):
        second = load_access(tmp_path)
    assert second.postgres_port != first.postgres_port
    assert second.valkey_port == first.valkey_port
    assert second.postgres_password == first.postgres_password


def test_only_the_owner_can_read_passwords(tmp_path: Path) -> None:
    load_access(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["places.json"]
    assert (tmp_path / "places.json").stat().st_mode & 0o777 == 0o600


def test_files_are_replaced_as_a_whole(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        write_private(tmp_path / "file", content)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"second"]


def test_each_role_has_a_url(tmp_path: Path) -> None:
    access = load_access(tmp_path)
    urls = endpoints(access)
    server = f"127.0.0.1:{access.postgres_port}/analytics"
    assert urls.database_url == f"postgresql://analytics:{access.postgres_password}@{server}"
    assert urls.redis_url == f"redis://:{access.valkey_password}@127.0.0.1:{access.valkey_port}/0"
    assert set(urls.by_role) == set(ROLES)
    for role, password in access.role_passwords.items():
        assert urls.by_role[role].endswith(f":{password}@{server}")


def test_a_role_without_a_url_is_the_owner() -> None:
    assert Databases("owner", {"reader": "r"}).url("reader") == "r"
    assert Databases("owner", {"reader": "r"}).url("writer") == "owner"
