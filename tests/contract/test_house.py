"""The house keeps its floors: who imports whom, and how large rooms are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.for_each import for_each

ROOT = Path(__file__).parents[2]
FLOORS = ["main", "commands", "routes", "services", "repo", "common", "config", "utils"]
FENCES = {
    "fastapi": {"main.py", "routes", "services/dependencies.py"},
    "redis": {"services"},
    "psycopg2": {"config/database.py", "repo", "common/decorators.py", "utils/postgres.py"},
}
# The service asks no address but those of its servers, which have libraries of their own.
FETCHING = {"aiohttp", "httpx", "requests", "urllib3", "urllib.request", "http.client"}
ROOMS = sorted(
    path.relative_to(ROOT)
    for floor in FLOORS
    for path in [*ROOT.glob(f"{floor}.py"), *ROOT.glob(f"{floor}/**/*.py")]
)

# What `make test` runs; whatever else the machine does, it is green.
SUITE = sorted(
    path.relative_to(ROOT)
    for folder in ("unit", "repo", "services", "api", "commands", "contract")
    for path in ROOT.glob(f"tests/{folder}/test_*.py")
)

# Modules of logic, whose tests are found by their names.
LOGIC = (
    "commands",
    "config",
    "repo/adopt",
    "repo/engine",
    "repo/rollups",
    "repo/verify",
    "services/answering",
    "services/embedded",
    "services/lifecycle",
    "services/status",
    "utils",
    "utils/time",
)
TESTED_BY_NAME = [
    room for room in ROOMS if room.parent.as_posix() in LOGIC and room.name != "__init__.py"
]
# Tested by the tests of those that use them; this list may only become shorter.
TESTED_ELSEWHERE = {
    "commands/_migrate_first.py",
    "commands/_options.py",
    "commands/_rollup_process.py",
    "commands/_server.py",
    "commands/_worker.py",
    "commands/_workers.py",
    "config/database_errors.py",
    "repo/adopt/trigger.py",
    "repo/engine/rollup_source.py",
    "repo/rollups/fold.py",
    "repo/rollups/rollup_writer.py",
    "repo/verify/chunk.py",
    "repo/verify/days_before_horizon.py",
    "repo/verify/dictionaries_and_state.py",
    "repo/verify/rollups.py",
    "repo/verify/sample.py",
    "repo/verify/slots_before_horizon.py",
    "repo/verify/verifiers.py",
    "services/answering/answer_service.py",
    "services/embedded/client.py",
    "services/embedded/servers.py",
    "services/embedded/supervisor.py",
    "services/lifecycle/erasure.py",
    "services/status/servers.py",
    "utils/postgres.py",
}


def tree(room: Path) -> ast.Module:
    return ast.parse((ROOT / room).read_text())


def imported(room: Path) -> Iterator[str]:
    for node in ast.walk(tree(room)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def floor(name: str) -> str:
    return name.split(".")[0]


@for_each(ROOMS)
def test_imports_point_down(room: Path) -> None:
    here = FLOORS.index(room.parts[0].removesuffix(".py"))
    for name in imported(room):
        if floor(name) in FLOORS:
            assert FLOORS.index(floor(name)) >= here, f"{name} stands above {room}: move it down"


def reached(room: Path) -> set[Path]:
    """All rooms that one imports, however deep."""
    visited, pending = set(), {room}
    while pending:
        visited.add(here := pending.pop())
        pending |= {path for path in modules(here) if path in ROOMS} - visited
    return visited


def modules(room: Path) -> Iterator[Path]:
    """The files that may be meant: what is imported from a package is one, or stands in one."""
    for name in imported(room):
        yield Path(*name.split(".")).with_suffix(".py")
        yield Path(*name.split("."), "__init__.py")
    for node in ast.walk(tree(room)):
        if isinstance(node, ast.ImportFrom) and node.module:
            package = Path(*node.module.split("."))
            yield from (package / f"{alias.name}.py" for alias in node.names)


@pytest.mark.parametrize(
    "room",
    [
        "commands/rollup.py",
        "services/background/rollup_worker.py",
        "repo/rollups/rollup_writer.py",
        "repo/lifecycle/erasure.py",
    ],
)
def test_background_tasks_do_not_import_questions(room: str) -> None:
    """A question has the limits of a request, which events and days have not."""
    questions = {room for room in ROOMS if room.parent == Path("common/questions")}
    assert not questions & reached(Path(room)), "give it a common.query.Query"


@for_each(ROOMS)
def test_libraries_are_imported_only_by_their_modules(room: Path) -> None:
    for name in imported(room):
        for module in [FENCES[floor(name)]] if floor(name) in FENCES else []:
            inside = {room.as_posix(), *(parent.as_posix() for parent in room.parents)}
            assert inside & module, f"{room} imports {name}, which belongs to {sorted(module)}"


@for_each(ROOMS)
def test_nothing_fetches_addresses(room: Path) -> None:
    assert not FETCHING & set(imported(room)), f"{room} must not ask what it was sent"


@for_each(ROOMS)
def test_only_config_reads_the_environment(room: Path) -> None:
    if room.parts[0] != "config":
        text = (ROOT / room).read_text()
        assert "os.environ" not in text, "take it from config.settings"
        assert "getenv" not in text, "take it from config.settings"


@for_each(ROOMS)
def test_modules_and_functions_are_limited_in_length(room: Path) -> None:
    assert len((ROOT / room).read_text().splitlines()) <= 500, f"{room} is more than one room"
    for node in ast.walk(tree(room)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 40, f"{node.name} does more than one thing"


def test_sql_stands_in_files_and_carries_its_name() -> None:
    from repo.statements import statements

    for file in (ROOT / "repo" / "sql").glob("*.sql"):
        for name, text in statements(file.stem).items():
            assert name.startswith(file.stem)
            assert text.startswith(f"/* {name} */")


@for_each(TESTED_BY_NAME)
def test_a_module_of_logic_has_a_test_of_its_name(room: Path) -> None:
    test_name = f"test_{room.name.lstrip('_')}"
    has_test = test_name in {path.name for path in SUITE}
    if room.as_posix() in TESTED_ELSEWHERE:
        assert not has_test, f"remove {room} from TESTED_ELSEWHERE: it has a test of its name"
    else:
        assert has_test, (
            f"add tests/unit/test_{room.name.lstrip('_')}, or one in a folder with servers"
        )


def test_exceptions_are_modules() -> None:
    assert {room.as_posix() for room in TESTED_BY_NAME} >= TESTED_ELSEWHERE


@for_each(SUITE)
def test_time_limits_in_tests_are_adjusted_for_load(room: Path) -> None:
    raw = re.findall(
        r"^.*(?:- began|elapsed\.total_seconds\(\)) <=? [0-9.]+$", (ROOT / room).read_text(), re.M
    )
    assert raw == [], "compare with `within(seconds)` of tests/wait_until.py"
