"""Fixtures for fault tests, which have servers of their own and print a table of all checks."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.embedded import Endpoints, embedded_servers
from tests.faults.service_process import Service, service
from tests.servers import OPTIONS, Cluster

_OPTIONS = {**OPTIONS, "shared_preload_libraries": "pg_stat_statements", "max_connections": "80"}
_ROWS: dict[int, tuple[str, str]] = {}
_FAILED: set[int] = set()


@dataclass(frozen=True)
class DedicatedServers:
    """Servers that only these tests use, and that they may kill."""

    folder: Path
    endpoints: Endpoints
    cluster: Cluster

    def postmaster(self) -> int:
        return int((self.folder / "postgres" / "postmaster.pid").read_text().split()[0])

    def valkey(self) -> int:
        """The process id of Valkey, found by its working directory. Raises: AssertionError."""
        cache_dir = str(self.folder / "valkey")
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(entry / "cwd") == cache_dir or (
                    b"valkey-server" in (entry / "cmdline").read_bytes()
                    and str(self.folder) in os.readlink(entry / "cwd")
                ):
                    return int(entry.name)
        raise AssertionError("no cache runs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("thorough")


@pytest.fixture(scope="session")
def own() -> Iterator[DedicatedServers]:
    with own_servers(_OPTIONS) as servers:
        yield servers


@contextlib.contextmanager
def own_servers(options: dict[str, str]) -> Iterator[DedicatedServers]:
    folder = Path(tempfile.mkdtemp(prefix="analytics-faults-"))
    folder.chmod(0o711)
    with embedded_servers(folder, postgres_options=options) as endpoints:
        yield DedicatedServers(folder, endpoints, Cluster(endpoints.database_url))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fault_url(own: DedicatedServers) -> Iterator[str]:
    url = own.cluster.migrated_database()
    yield url
    own.cluster.drop(url)


@pytest.fixture
def running(own: DedicatedServers, fault_url: str) -> Iterator[Service]:
    """A service over a database of its own; checks that no session is left in a transaction."""
    with service(fault_url, own.endpoints.redis_url) as started:
        yield started
        stuck = started.query(
            "select count(*) from pg_stat_activity where state like 'idle in transaction%' "
            "and now() - state_change > interval '1 second'"
        )
        assert stuck == [(0,)], "check 12: no session is idle in a transaction"


class Check:
    """A line in the table of checks."""

    def __init__(self, number: int, title: str) -> None:
        self._number = number
        self._title = title
        _ROWS.setdefault(number, (title, ""))

    def record(self, figure: str) -> None:
        text = _ROWS[self._number][1]
        _ROWS[self._number] = (self._title, f"{text}; {figure}" if text else figure)


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Check:
    """The line of `@pytest.mark.check(number)`; its title is the docstring of the test."""
    number = request.node.get_closest_marker("check").args[0]
    title = (request.function.__doc__ or "").strip().splitlines()[0]
    return Check(number, title)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: "pytest.CallInfo[None]") -> Iterator[None]:
    report = yield
    marker = item.get_closest_marker("check")
    if marker and report.failed:  # type: ignore[attr-defined]
        _FAILED.add(marker.args[0])
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("faults")
    for number, (title, figure) in sorted(_ROWS.items()):
        verdict = "FAIL" if number in _FAILED else "pass"
        terminalreporter.write_line(f"{number:>3}  {verdict}  {title} {figure}")
