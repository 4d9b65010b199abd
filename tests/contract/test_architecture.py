"""The layers of the product: which module may import which, and how large modules are."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.questions import QUESTIONS
from tests.for_each import for_each

ROOT = Path(__file__).parents[2]
LAYERS = ["main", "commands", "routes", "services", "repo", "common", "config", "utils"]
ALLOWED_LIBRARIES = {
    "fastapi": {"main.py", "routes", "services/dependencies.py"},
    "redis": {"services"},
    "psycopg2": {"config/database.py", "repo", "common/decorators.py", "utils/postgres.py"},
}
# The service asks no address but those of its servers, which have libraries of their own.
FETCHING = {"aiohttp", "httpx", "requests", "urllib3", "urllib.request", "http.client"}
MODULES = sorted(
    path.relative_to(ROOT)
    for layer in LAYERS
    for path in [*ROOT.glob(f"{layer}.py"), *ROOT.glob(f"{layer}/**/*.py")]
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
    module
    for module in MODULES
    if module.parent.as_posix() in LOGIC and module.name != "__init__.py"
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
    "repo/verify/slot_chunk.py",
    "repo/verify/days_before_horizon.py",
    "repo/verify/dictionaries_and_state.py",
    "repo/verify/rollups.py",
    "repo/verify/sample.py",
    "repo/verify/slots_before_horizon.py",
    "repo/verify/verifiers.py",
    "services/embedded/supervisor_client.py",
    "services/embedded/servers.py",
    "services/embedded/supervisor.py",
    "services/lifecycle/erasure.py",
    "services/status/servers.py",
    "utils/postgres.py",
}


def tree(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text())


def imported(module: Path) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def layer_of(name: str) -> str:
    return name.split(".")[0]


@for_each(MODULES)
def test_imports_point_down(module: Path) -> None:
    here = LAYERS.index(module.parts[0].removesuffix(".py"))
    for name in imported(module):
        if layer_of(name) in LAYERS:
            assert LAYERS.index(layer_of(name)) >= here, (
                f"{name} stands above {module}: move it down"
            )


def reached(module: Path) -> set[Path]:
    """All modules that a module imports, however deep."""
    visited, pending = set(), {module}
    while pending:
        visited.add(here := pending.pop())
        pending |= {path for path in modules(here) if path in MODULES} - visited
    return visited


def modules(module: Path) -> Iterator[Path]:
    """The files that may be meant: what is imported from a package is one, or stands in one."""
    for name in imported(module):
        yield Path(*name.split(".")).with_suffix(".py")
        yield Path(*name.split("."), "__init__.py")
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and node.module:
            package = Path(*node.module.split("."))
            yield from (package / f"{alias.name}.py" for alias in node.names)


@pytest.mark.parametrize(
    "module",
    [
        "commands/rollup.py",
        "services/background/rollup_worker.py",
        "repo/rollups/rollup_writer.py",
        "repo/lifecycle/erasure.py",
    ],
)
def test_background_tasks_do_not_import_questions(module: str) -> None:
    """A question has the limits of a request, which events and days have not."""
    questions = {each for each in MODULES if each.parent == Path("common/questions")}
    assert not questions & reached(Path(module)), "give it a common.query.Query"


BELOW_SERVICES = [
    module
    for module in MODULES
    if module.parts[0] in ("repo", "common", "config", "utils")
    and module.parent != Path("common/questions")
]


@for_each(BELOW_SERVICES)
def test_layers_below_services_use_no_question(module: Path) -> None:
    """Questions resolve to queries when they are parsed."""
    questions = {question.__name__ for question in QUESTIONS}
    named = {
        alias.name
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("common.questions")
        for alias in node.names
    }
    assert not questions & named, "use a query of common/questions"


@for_each(MODULES)
def test_libraries_are_imported_only_by_their_modules(module: Path) -> None:
    inside = {module.as_posix(), *(parent.as_posix() for parent in module.parents)}
    for name in imported(module):
        if allowed := ALLOWED_LIBRARIES.get(layer_of(name)):
            assert inside & allowed, f"{module} imports {name}, which belongs to {sorted(allowed)}"


@for_each(MODULES)
def test_nothing_fetches_addresses(module: Path) -> None:
    assert not FETCHING & set(imported(module)), f"{module} must not ask what it was sent"


@for_each(MODULES)
def test_only_config_reads_the_environment(module: Path) -> None:
    if module.parts[0] != "config":
        text = (ROOT / module).read_text()
        assert "os.environ" not in text, "take it from config.settings"
        assert "getenv" not in text, "take it from config.settings"


@for_each(MODULES)
def test_modules_and_functions_are_limited_in_length(module: Path) -> None:
    assert len((ROOT / module).read_text().splitlines()) <= 500, f"{module} is more than one module"
    for node in ast.walk(tree(module)):
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
def test_a_module_of_logic_has_a_test_of_its_name(module: Path) -> None:
    test_name = f"test_{module.name.lstrip('_')}"
    has_test = test_name in {path.name for path in SUITE}
    if module.as_posix() in TESTED_ELSEWHERE:
        assert not has_test, f"remove {module} from TESTED_ELSEWHERE: it has a test of its name"
    else:
        assert has_test, (
            f"add tests/unit/test_{module.name.lstrip('_')}, or one in a folder with servers"
        )


def test_exceptions_are_modules() -> None:
    assert {module.as_posix() for module in TESTED_BY_NAME} >= TESTED_ELSEWHERE


@for_each(SUITE)
def test_time_limits_in_tests_are_adjusted_for_load(module: Path) -> None:
    raw = re.findall(
        r"^.*(?:- began|elapsed\.total_seconds\(\)) <=? [0-9.]+$", (ROOT / module).read_text(), re.M
    )
    assert raw == [], "compare with `within(seconds)` of tests/wait_until.py"
