"""Load the named SQL statements of the files in `repo/sql/`."""

import re
from functools import lru_cache
from importlib.resources import files
from typing import Any

from psycopg2.sql import SQL

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def statements(file: str) -> dict[str, str]:
    """Return the statements of a file by name; each begins with its name as a comment."""
    text = files("repo").joinpath("sql", f"{file}.sql").read_text()
    _, *parts = _NAME.split(text)
    named = zip(parts[::2], parts[1::2], strict=True)
    return {name: f"/* {name} */ {body.strip()}" for name, body in named}


@lru_cache(maxsize=64)
def compose(statement: str, **parts: str) -> str:
    """Return a statement with SQL in its `{placeholders}`; values belong into its parameters.

    For conditions and subqueries of a few kinds. Names and literals need a connection to be quoted:
    `psycopg2.sql` inserts them where the statement is executed.
    """
    no_connection: Any = None
    inserted = {name: SQL(part) for name, part in parts.items()}
    return SQL(statement).format(**inserted).as_string(no_connection)
