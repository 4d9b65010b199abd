"""SQL is composed by psycopg2.sql alone, so that what is inserted is quoted or on purpose not."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.for_each import for_each

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path.relative_to(ROOT)
    for floor in ("repo", "common", "config", "utils")
    for path in ROOT.glob(f"{floor}/**/*.py")
)
# To be composed by psycopg2.sql as well; this list may only become shorter.
EXCEPTIONS: set[str] = set()

# What takes SQL.
SINKS = {
    "execute",
    "executemany",
    "mogrify",
    "copy_expert",
    "copy_out",
    "prepared_statement",
}
# What makes text of other text.
TEXT_METHODS = {"format", "format_map", "join", "replace"}
COMMAND = re.compile(
    r"\s*(/\*.*?\*/\s*)?(alter|analyze|begin|comment|copy|create|deallocate|declare|delete|drop"
    r"|execute|grant|insert|listen|lock|notify|prepare|reset|revoke|rollback|savepoint|select|set"
    r"|start|truncate|update|vacuum|with\s+\w+\s+as)\s",
    re.DOTALL,
)


def faults(source: str) -> Iterator[str]:
    """The expressions that compose SQL by other means."""
    for node in ast.walk(ast.parse(source)):
        composed = [node] if is_composed_text(node) and has_sql(node) else []
        if isinstance(node, ast.Call) and name_of(node.func) in SINKS:
            composed += [sql for sql in node.args[:2] if is_composed_text(sql)]
        yield from (ast.unparse(each) for each in composed)


def is_composed_text(node: ast.AST) -> bool:
    """Whether an expression makes a text of several parts, not counting those of psycopg2.sql."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add | ast.Mod)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in TEXT_METHODS and not is_composable(node.func.value)
    return False


def is_composable(node: ast.AST) -> bool:
    """Whether an expression is `SQL("...")`, however it is imported."""
    return isinstance(node, ast.Call) and name_of(node.func) in {"SQL", "Text"}


def has_sql(node: ast.AST) -> bool:
    """Whether one of the parts is SQL: a statement of a file, or a text that begins as one."""
    parts: list[ast.expr] = []
    if isinstance(node, ast.JoinedStr):
        parts = [
            *node.values[:1],
            *(part.value for part in node.values if isinstance(part, ast.FormattedValue)),
        ]
    elif isinstance(node, ast.BinOp):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        parts = [node.func.value]
    return any(is_statement(part) for part in parts)


def is_statement(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Name) and node.value.id.isupper()
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and COMMAND.match(node.value) is not None
    )


def name_of(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


@for_each(MODULES)
def test_sql_is_composed_by_psycopg2(module: Path) -> None:
    found = list(faults((ROOT / module).read_text()))
    if module.as_posix() in EXCEPTIONS:
        assert found, f"remove {module} from EXCEPTIONS"
    else:
        assert not found, "use psycopg2.sql, or repo.statements.compose"


@pytest.mark.parametrize(
    "line",
    [
        'cur.execute(f"vacuum {table}")',
        'cur.execute("vacuum " + table)',
        'cur.execute("vacuum %s" % table)',
        'cur.execute("vacuum {}".format(table))',
        'cur.execute(" ".join(words))',
        'cur.copy_expert(f"{head} to stdout", file)',
        'copy_out(cur, statement.replace("{names}", condition), params)',
        'statement = SQL["fold_batch"].replace("{source}", source)',
        'statement = SQL["fold_batch"] + source',
        'statement = f"{FOLD[name]} limit 1"',
        'prefix = f"set local statement_timeout = {timeout}"',
        'prefix = "set local statement_timeout = " + timeout',
        'prefix = "/* name */ select %s" % column',
    ],
)
def test_other_ways_are_noticed(line: str) -> None:
    assert list(faults(line))


@pytest.mark.parametrize(
    "line",
    [
        'cur.execute(Text("vacuum {}").format(Identifier(table)))',
        'cur.execute(sql.SQL("vacuum {}").format(sql.Identifier(table)))',
        'cur.execute("set local lock_timeout = %s", (timeout,))',
        'cur.execute(SQL[f"verify_{table}"], params)',
        'copy_out(cur, compose(SQL["fold_batch"], source=SQL[source]), params)',
        'raise Unverifiable(f"run {command} to set {name}")',
    ],
)
def test_psycopg2_and_messages_are_no_faults(line: str) -> None:
    assert not list(faults(line))
